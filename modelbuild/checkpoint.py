"""Whether a checkpoint fits the model that was built from it: every weight is there, of its shape, and a number."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelbuild.errors import ExportError, listed
from modelbuild.tasks import Task, task_of

Shape = tuple[int, ...]

_SHOWN = 4
_LAYER = re.compile(r"^(.+?)\.(\d+)\.")
# How transformers says that it cannot read a pickle, and torch what it was asked to call and did not.
_UNREADABLE_PICKLE = "Unable to load weights from pytorch checkpoint"
_CALL = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What is compared: the PyTorch `module` that was built and filled for `task`, and the class that the checkpoint
    is `declared` to be (None if it declares none), found at `where`.
    """

    module: Any
    declared: str | None
    task: Task
    where: str

    def built(self) -> str:
        """The class of the module."""
        return type(self.module).__name__

    def needed(self) -> list[str]:
        """The names of the weights that an output of the task depends on, in the module's order."""
        prefix, unused = f"{self.module.base_model_prefix}.", self.task.unused_weights or "\0"
        return [name for name in self.module.state_dict() if not name.removeprefix(prefix).startswith(unused)]


def require_every_weight(fit: Fit, missing: Collection[str]) -> None:
    """Raise ExportError when a weight that an output depends on is `missing`: it would have been made up."""
    needed = fit.needed()
    lost = [name for name in needed if name in set(missing)]
    if not lost:
        return
    layers = _lost_layers(needed, lost)
    has = (
        f"no weights for {listed(lost, _SHOWN)}"
        if len(lost) < len(needed)
        else f"none of the {len(lost)} that it needs"
    )
    is_other = fit.declared is not None and fit.declared != fit.built()
    what = f"the checkpoint is a {fit.declared} and not a {fit.built()}" if is_other else f"not a whole {fit.built()}"
    raise ExportError(
        f"{what}: it has {has}" + (f" ({layers})" if layers else ""), where=fit.where, hint=_advice(fit, layers)
    )


def require_shapes(fit: Fit, mismatched: Collection[str], stored: Mapping[str, Shape]) -> None:
    """Raise ExportError that names the `mismatched` weights with their shape in the checkpoint and in the module.

    `stored` are the shapes of the checkpoint by its own names, which may have the prefix of the base model or lack it.
    """
    prefix = f"{fit.module.base_model_prefix}."
    said = []
    for name, tensor in fit.module.state_dict().items():
        if name in mismatched:
            names = (name, prefix + name, name.removeprefix(prefix))
            found = next((_shape(stored[key]) for key in names if key in stored), "another")
            said.append(f"{name} has shape {found} and not {_shape(tuple(tensor.shape))}")
    raise ExportError(
        f"the checkpoint does not fit the {fit.built()} that config.json describes: {listed(said, _SHOWN)}",
        where=fit.where,
        hint="correct the sizes in config.json (num_labels and id2label for a head), or choose another checkpoint",
    )


def require_finite(fit: Fit) -> None:
    """Raise ExportError when a parameter is NaN or infinite somewhere, or a buffer NaN: a mask may be -inf."""
    if bad := not_finite(fit.module):
        raise ExportError(bad, where=fit.where, hint="the checkpoint is damaged: fetch it or train it again")


def not_finite(module: Any) -> str:
    """Which parameter of `module` is NaN or infinite somewhere, or which buffer NaN; empty where none is."""
    parameters = dict(module.named_parameters())
    bad = []
    for name, tensor in module.state_dict().items():
        # What a module's get_extra_state gives need be no tensor.
        if hasattr(tensor, "isfinite") and (said := _not_numbers(tensor, infinite=name in parameters)):
            bad.append(f"tensor {name} contains {said}")
    more = f" (and {len(bad) - 1} other tensors do)" if len(bad) > 1 else ""
    return f"{bad[0]}{more}" if bad else ""


def refuse_pickle(error: Exception, where: str) -> None:
    """Raise ExportError when `error` says that a pickle is damaged, or wanted to call something to be read."""
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    if not str(error).startswith(_UNREADABLE_PICKLE):
        return
    called = _CALL.search(str(chain[-1]))
    if called:
        raise ExportError(
            f"the pickled weights hold more than tensors: reading them would call {called[1]}",
            where=where,
            hint="refused; get the weights as model.safetensors from someone you trust",
        ) from error
    why = str(chain[-1]).partition(". ")[0] or type(chain[-1]).__name__
    raise ExportError(f"the pickled weights are damaged: {why}", where=where, hint="fetch the model again") from error


def _not_numbers(tensor: Any, *, infinite: bool) -> str:
    # A sum is finite only if every part is, and is faster than looking at each.
    if not tensor.is_floating_point() or bool(tensor.sum().isfinite()):
        return ""
    counts = {"NaN": int(tensor.isnan().sum()), "infinite": int(tensor.isinf().sum()) if infinite else 0}
    said = [f"{count} {kind}" for kind, count in counts.items() if count]
    return f"{' and '.join(said)} value{'s' if sum(counts.values()) > 1 else ''}" if said else ""


def _lost_layers(weights: Sequence[str], lost: Collection[str]) -> str:
    """How many layers config.json has and how many the checkpoint, when whole ones are lost."""
    left = _layers(name for name in weights if name not in lost)
    for prefix, numbers in _layers(weights).items():
        if 0 < len(left.get(prefix, ())) < len(numbers):
            return f"config.json says {len(numbers)} layers in {prefix}, the checkpoint has {len(left[prefix])}"
    return ""


def _layers(names: Iterable[str]) -> dict[str, set[str]]:
    """The numbers of the layers in each stack of them: `encoder.layer.0.output.dense.bias` is 0 of `encoder.layer`."""
    found: dict[str, set[str]] = {}
    for matched in filter(None, map(_LAYER.match, names)):
        found.setdefault(matched[1], set()).add(matched[2])
    return found


def _advice(fit: Fit, layers: str) -> str:
    other = task_of(fit.declared) if fit.declared else None
    if other and other.name != fit.task.name:
        return f"choose task={other.name}, or a checkpoint that was trained for {fit.task.name}"
    return "correct config.json, or fetch the model again" if layers else "choose another task or checkpoint"


def _shape(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"
