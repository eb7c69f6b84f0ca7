"""The account of the weights: every weight of the graph is the original's, or made of weights that are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from modelbuild.checks.quantized_weights import quantized_tensors
from modelbuild.checks.subject import Subject
from modelbuild.errors import PackageError, listed
from modelbuild.report import Check
from modelbuild.samples import sample
from modelbuild.sizes import typical_sizes
from modelbuild.weights.account import account_for
from modelbuild.weights.entries import Account, Entry
from modelbuild.weights.folded import Norm, norm
from modelbuild.weights.gates import GRU, LSTM, Order
from modelbuild.weights.tensors import Array, Original

_LISTED = 20


def examine(subject: Subject) -> Iterator[Check]:
    """Whether the weights are the original's to the last bit, or to half a step where they are quantized, and which are
    not accounted for.

    A parameter that the outputs depend on may be missing from the graph only if what was folded from it may be there:
    weights that are made of nothing known, with at least as many values as all missing parameters have together, and
    none of them of the size of one. They are listed, and parity has to say whether they are right.
    """
    account = account_of(subject)
    yield _weights(account)
    yield _unaccounted(account, missing_parameters(subject, account))


def account_of(subject: Subject) -> Account:
    """Every weight of the file that ships, and which tensors of the reference it comes from."""
    model = subject.component.module.model
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    originals = {name: np.asarray(tensor.detach()) for name, tensor in tensors.items()}
    quantized = tuple(quantized_tensors(subject.model_file, _owned(model)))
    return account_for(graph_tensors(subject.model_file), originals, tuple(_norms(model)), _gates(model), quantized)


def _owned(model: torch.nn.Module) -> dict[str, frozenset[str]]:
    """The names of the matrices of each module."""
    return {
        path: frozenset(name for name, value in module.named_parameters(path, recurse=False) if value.ndim > 1)
        for path, module in model.named_modules(remove_duplicate=False)
    }


def _gates(model: torch.nn.Module) -> dict[str, Order]:
    """The weights and biases of recurrent layers, by name, with the order that ONNX has their gates in."""
    found: dict[str, Order] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.GRU | torch.nn.LSTM):
            order = GRU if isinstance(module, torch.nn.GRU) else LSTM
            parts = dict(module.named_parameters(prefix=name))
            found |= {
                part: order for part in parts if part.rpartition(".")[2].startswith(("weight_ih", "weight_hh", "bias"))
            }
    return found


def _norms(model: torch.nn.Module) -> Iterator[Norm]:
    """The batch normalizations of a model, which are folded into the convolutions before them."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            stored = (module.weight, module.bias, module.running_mean, module.running_var)
            if all(tensor is not None for tensor in stored):
                yield norm(name, [np.asarray(tensor.detach()) for tensor in stored], module.eps)


def graph_tensors(model: Path) -> Iterator[tuple[str, Array]]:
    """The initializers and constants of an ONNX file by name, in its order, those of subgraphs and functions too.

    External data is mapped into memory, not read. Raises PackageError when the file or its data cannot be read.
    """
    try:
        for name, tensor in _tensors(ir.load(model)):
            yield name, tensor.numpy()
    except Exception as error:
        raise PackageError(
            f"its weights cannot be read: {error}", where=str(model), hint="build it again, or copy it whole"
        ) from error


def _tensors(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                yield name, value.const_value
    for nodes in (model.graph, *model.functions.values()):
        for node in ir.traversal.RecursiveGraphIterator(nodes):
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR:
                    yield node.outputs[0].name, attribute.as_tensor()
                elif attribute.name == "value_floats":
                    yield node.outputs[0].name, ir.tensor(np.array(attribute.as_floats(), dtype=np.float32))


def missing_parameters(subject: Subject, account: Account) -> tuple[Original, ...]:
    """The parameters that no weight of the graph comes from, although the outputs depend on them.

    Which do is what autograd says: there is a way from the parameter to an output of the task. Those of one value, like
    an untrained bias, may have been folded away, unless a weight of their size is not accounted for.
    """
    parameters = dict(subject.component.module.model.named_parameters(remove_duplicate=False))
    free = {entry.size for entry in account.unaccounted()}
    absent = [original for original in account.absent if not original.uniform() or original.values.size in free]
    wanted = {name for original in absent for name in original.names} & parameters.keys()
    reached = _reached(subject, {name: parameters[name] for name in wanted})
    return tuple(original for original in absent if reached.intersection(original.names))


def _reached(subject: Subject, parameters: dict[str, torch.nn.Parameter]) -> set[str]:
    """Those of `parameters` that an output of the task depends on, as far as it has a gradient: whole numbers have
    none, and what forward detaches has none.
    """
    parameters = {name: value for name, value in parameters.items() if value.is_floating_point()}
    if not parameters:
        return set()
    # A tied parameter has several names and one leaf.
    by_parameter = {parameter: parameter.detach().requires_grad_() for parameter in parameters.values()}
    leaves = {name: by_parameter[parameter] for name, parameter in parameters.items()}
    sizes = typical_sizes(subject.interface, batch=1, length=2, past=2)
    batch = sample(subject.interface, sizes, mask="ones", rng=np.random.default_rng(0))
    inputs = {name: torch.from_numpy(array) for name, array in batch.inputs.items()}
    with torch.enable_grad():
        inside = {f"model.{name}": leaf for name, leaf in leaves.items()}
        result = torch.func.functional_call(subject.component.module, inside, args=(inputs,))
        sums = [value.sum() for value in result.values() if value.is_floating_point() and value.requires_grad]
        if not sums:
            return set()
        total = torch.stack(sums).sum()
        gradients = torch.autograd.grad(total, list(by_parameter.values()), allow_unused=True)
    found = {leaf for leaf, gradient in zip(by_parameter.values(), gradients, strict=True) if gradient is not None}
    return {name for name, leaf in leaves.items() if leaf in found}


def _weights(account: Account) -> Check:
    known = [entry for entry in account.entries if entry.relation != "unaccounted"]
    counts = Counter(entry.relation for entry in known)
    derived = len(known) - counts["equal"] - counts["changed"]
    wrong = [entry for entry in known if entry.faulty]
    faulty = f", {len(wrong)} wrong" if wrong else ""
    return Check(
        name="weights",
        passed=not wrong,
        compared=f"{len(known)} tensors, {_values(known)}: {counts['equal']} equal, {derived} derived{faulty}",
        worst=float(sum(entry.faulty for entry in wrong)),
        limit=0.0,
        where=f"{wrong[0].name}: {wrong[0].where}" if wrong else "",
    )


def _unaccounted(account: Account, missing: Sequence[Original]) -> Check:
    entries = account.unaccounted()
    found = listed([f"{entry.name} {list(entry.shape)}" for entry in entries], _LISTED)
    names = listed([f"{original.names[0]} {list(original.values.shape)}" for original in missing], _LISTED)
    sizes = [original.values.size for original in missing]
    replaced = any(entry.size in sizes for entry in entries)
    passed = not missing or (not replaced and sum(entry.size for entry in entries) >= sum(sizes))
    return Check(
        name="weights.unaccounted",
        passed=passed,
        compared=f"{len(entries)} tensors, {_values(entries)}" + (f": {found}" if found else ""),
        worst=0.0 if passed else float(len(missing)),
        limit=0.0,
        where=f"no weight of the graph comes from {names}" if missing else "",
    )


def _values(entries: Sequence[Entry]) -> str:
    count = sum(entry.size for entry in entries)
    return f"{count / 1e6:.1f} M values" if count >= 100_000 else f"{count} values"
