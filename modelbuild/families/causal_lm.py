"""Text in, the scores of the next token and a longer cache out: decoders in one graph."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from modelbuild.component import Component, Named, Tensors
from modelbuild.errors import ExportError, first_line
from modelbuild.interface import Axis, Input, Interface, Output
from modelbuild.tasks import Task
from modelbuild.text_limits import Limits, limits_of

_PROBED = 2


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """The heads in one layer of a cache, and how many values a key and a value have."""

    heads: int
    key: int
    value: int


class CausalModel(Named):
    """A transformers model that continues text. Its cache is a key and a value per layer, `(batch, heads, positions,
    size)`.
    """

    def __init__(self, model: torch.nn.Module, layers: int) -> None:
        super().__init__(model)
        self.layers = layers

    def forward(self, inputs: Tensors) -> Tensors:
        """The scores of the next token after each new position, and the cache with the new positions."""
        cache = DynamicCache()
        for layer in range(self.layers):
            cache.update(*(inputs[f"past_key_values.{layer}.{part}"] for part in ("key", "value")), layer)
        given = {name: tensor for name, tensor in inputs.items() if "." not in name}
        result = self.model(**given, past_key_values=cache, use_cache=True, return_dict=True)
        outputs: Tensors = {"logits": result.logits}
        for number, layer in enumerate(result.past_key_values.layers):
            outputs |= {f"present.{number}.key": layer.keys, f"present.{number}.value": layer.values}
        return outputs


def components(model: torch.nn.Module, task: Task) -> tuple[Component, ...]:
    """One graph, `model.onnx`, which takes the cache and gives a longer one."""
    names = _input_names(model, task)
    layers = _cache(model)
    return (
        Component(
            name="model",
            file="model.onnx",
            module=CausalModel(model, len(layers)).eval(),
            interface=_interface(task, names, limits_of(model.config), layers),
            attention_layers=len(layers),
            unused_weights=task.unused_weights,
        ),
    )


def _input_names(model: torch.nn.Module, task: Task) -> tuple[str, ...]:
    """The inputs of `task` that this model's `forward` takes, in the task's order."""
    accepted = inspect.signature(model.forward).parameters
    absent = [name for name in ("input_ids", "attention_mask", "past_key_values") if name not in accepted]
    if absent:
        raise _refused(model, f"takes no {absent[0]}", "choose a decoder with a cache of keys and values")
    if type(model.config)().is_encoder_decoder:
        raise _refused(model, "is half of a model with an encoder", "choose a task for both (text2text-generation)")
    return tuple(name for name in task.inputs if name in accepted)


def _cache(model: torch.nn.Module) -> tuple[_Layer, ...]:
    """What the model puts into an empty cache. Raises ExportError when that is not a key and a value of every position
    and every layer, or when a position sees those after it, so that no cache can be right.
    """
    cache: Any = DynamicCache()
    first = torch.zeros((1, _PROBED), dtype=torch.int64)
    second = torch.tensor([[0] * (_PROBED - 1) + [1]])
    result, other = _run(model, first, cache), _run(model, second, DynamicCache())
    if not torch.allclose(result.logits[:, :-1], other.logits[:, :-1], rtol=1e-4, atol=1e-5):
        raise _refused(model, "sees the tokens after a token", "is it an encoder? A decoder's config says is_decoder")
    if result.get("past_key_values") is not cache or not cache.layers:
        raise _refused(model, "keeps no keys and values in the cache it is given", "choose a decoder with layers")
    return tuple(_layer(model, layer) for layer in cache.layers)


def _run(model: torch.nn.Module, tokens: torch.Tensor, cache: Any) -> Any:
    try:
        with torch.inference_mode():
            return model(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
            )
    except Exception as error:
        raise _refused(model, f"cannot be run with a cache: {first_line(error)}", "correct its config.json") from error


def _layer(model: torch.nn.Module, layer: Any) -> _Layer:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    shapes = [tuple(tensor.shape) for tensor in (keys, values) if isinstance(tensor, torch.Tensor)]
    usual = all(len(shape) == 4 and shape[:3] == (1, shapes[0][1], _PROBED) for shape in shapes)
    if len(shapes) < 2 or not usual:
        raise _refused(
            model,
            f"has a cache of its own kind, with {' and '.join(map(str, shapes)) or 'nothing'} for two positions",
            "a key and a value, each (batch, heads, positions, size), are needed",
        )
    return _Layer(heads=shapes[0][1], key=shapes[0][3], value=shapes[1][3])


def _refused(model: torch.nn.Module, what: str, hint: str) -> ExportError:
    return ExportError(f"{type(model).__name__} {what}", where="text-generation", hint=hint)


def _interface(task: Task, names: tuple[str, ...], limits: Limits, layers: tuple[_Layer, ...]) -> Interface:
    kinds: dict[str, dict[str, Any]] = {
        "input_ids": {"shape": ("batch", "sequence"), "content": "token_ids", "below": limits.vocab_size},
        "attention_mask": {"shape": ("batch", "total"), "content": "attention_mask"},
        "position_ids": {"shape": ("batch", "sequence"), "content": "position_ids"},
    }
    parts = [
        (f"{number}.{part}", layer.heads, size)
        for number, layer in enumerate(layers)
        for part, size in (("key", layer.key), ("value", layer.value))
    ]
    past = tuple(
        Input(name=f"past_key_values.{name}", dtype="float32", shape=("batch", heads, "past", size))
        for name, heads, size in parts
    )
    present = tuple(
        Output(name=f"present.{name}", shape=("batch", heads, "total", size)) for name, heads, size in parts
    )
    most = limits.max_positions
    return Interface(
        inputs=(*(Input(name=name, dtype="int64", **kinds[name]) for name in names), *past),
        outputs=(*task.outputs, *present),
        axes=(
            Axis(name="batch", kind="batch"),
            Axis(name="sequence", kind="length", largest=most),
            Axis(name="past", kind="past", smallest=0, largest=most and most - 1),
            Axis(name="total", kind="sum", largest=most, parts=("past", "sequence")),
        ),
    )
