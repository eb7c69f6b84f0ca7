"""Which model, and where its files come from: part of what a build is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, model_validator

from modelbuild.strict import Digests, Name, Strict
from modelbuild.suggest import did_you_mean

Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Repository = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]


class PackageSource(Strict):
    """Files carried by an installed Python package: `folder` inside `package`.

    `allow_pickle` lets weights be read from `pytorch_model.bin` where there is no `model.safetensors`, as tensors only.
    """

    kind: Literal["package"]
    package: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.\w+)*$")]
    folder: str = ""
    digests: Digests = {}
    allow_pickle: bool = False


class PathSource(Strict):
    """A local Hugging Face folder. `path` is absolute once the configuration is read."""

    kind: Literal["path"]
    path: Annotated[str, StringConstraints(min_length=1)]
    digests: Digests = {}
    allow_pickle: bool = False


class HubSource(Strict):
    """A repository of the Hugging Face hub at a pinned revision."""

    kind: Literal["hub"]
    repository: Repository
    revision: Revision
    digests: Digests = {}
    allow_pickle: bool = False


class InitSource(Strict):
    """An architecture from its config, with random weights drawn from `seed`. Not a trained model.

    `config` has the keys of the architecture's own config, with any JSON values.
    """

    kind: Literal["init"]
    architecture: Annotated[str, StringConstraints(pattern=r"^[A-Z]\w*$")]
    config: dict[str, JsonValue] = {}
    seed: Annotated[int, Field(ge=0)] = 0


AxisName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
Dotted = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
Size = Annotated[int, Field(ge=1)]


# What has one row per row of the batch and one position per token.
_OF_TEXT = ("token_ids", "attention_mask", "token_type_ids")
# What counts the rows of a table.
_COUNTED = ("token_ids", "token_type_ids", "indices")


class ModuleInput(Strict):
    """One input of a user's own module. `shape` has sizes, and names of axes whose size may change.

    Whole numbers are drawn from 0 to below `below`, or `between` two numbers, both included; others `between` two
    numbers, or as standard normal ones. `content` says what they are, where that is more than numbers.
    """

    dtype: Literal["float32", "int64", "int32", "uint8", "bool"]
    shape: tuple[Size | AxisName, ...]
    below: Annotated[int, Field(ge=1)] | None = None
    between: tuple[float, float] | None = None
    content: Literal["token_ids", "attention_mask", "token_type_ids", "indices", "flags", "values"] | None = None

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if self.between and self.between[0] > self.between[1]:
            raise ValueError(f"between has its smaller number last: {self.between[0]:g} and {self.between[1]:g}")
        of_text = len(self.shape) == 2 and self.shape[0] == "batch" and isinstance(self.shape[1], str)
        if self.content in _OF_TEXT and not of_text:
            raise ValueError(f"content={self.content} is for a shape such as [batch, sequence]")
        known = self.dtype in ("float32", "bool") or self.content == "attention_mask"
        if not known and self.below is None and self.between is None:
            raise ValueError(f"{self.dtype} needs below: its numbers are drawn from 0 to below it (or between: [1, 9])")
        if self.content in _COUNTED and self.below is None and self.between is None:
            raise ValueError(f"content={self.content} needs below: its numbers are drawn from 0 to below it")
        return self


class ModuleAxis(Strict):
    """The sizes that an axis of a user's own module may have: from `min` to `max` (None: nobody knows)."""

    min: Size = 1
    max: Size | None = None

    @model_validator(mode="after")
    def _has_sizes(self) -> Self:
        if self.max is not None and self.max <= self.min:
            raise ValueError(f"max {self.max} leaves no sizes above min {self.min}: write the size into the shape")
        return self


class ModuleSource(Strict):
    """A `torch.nn.Module` of the user's own: what `factory` gives for `arguments`, a function or class of the Python
    file `path`, or of the module `import_path`. Both paths are absolute once the configuration is read.

    Its weights are those of the safetensors file `weights`, or else those that it makes itself under `seed`. Its inputs
    are declared in `inputs`; or `example_inputs` is a function of the file that gives them as a dict of tensors, and
    `dynamic_axes` names those of their axes whose size may change. An axis called `batch` has rows that do not know of
    each other. `outputs` are names for the tensors that it gives, in order. `config` is what `config.json` shall say.
    """

    kind: Literal["module"]
    path: Annotated[str, StringConstraints(min_length=1)] | None = None
    import_path: Dotted | None = None
    factory: AxisName
    arguments: dict[str, JsonValue] = {}
    seed: Annotated[int, Field(ge=0)] = 0
    weights: Annotated[str, StringConstraints(min_length=1)] | None = None
    inputs: dict[str, ModuleInput] = {}
    example_inputs: AxisName | None = None
    dynamic_axes: dict[str, dict[int, AxisName]] = {}
    axes: dict[AxisName, ModuleAxis] = {}
    outputs: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    config: dict[str, JsonValue] = {}
    digests: Digests = {}

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.path is None) == (self.import_path is None):
            raise ValueError(
                "a module is in a Python file or in a Python package: set path or import_path, one of them"
            )
        if bool(self.inputs) == (self.example_inputs is not None):
            raise ValueError("inputs are declared or made by a function: set inputs or example_inputs, one of them")
        if self.dynamic_axes and self.example_inputs is None:
            raise ValueError("dynamic_axes go with example_inputs; in inputs, a name in a shape is a dynamic axis")
        for name in self.axes:
            if name not in self.axis_names():
                hint = did_you_mean(name, self.axis_names())
                raise ValueError(f"axes.{name}: no input has such an axis{'; ' if hint else ''}{hint}")
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"outputs has a name twice: {', '.join(self.outputs)}")
        return self

    def axis_names(self) -> tuple[str, ...]:
        """The names of the dynamic axes of all inputs, each once, in order."""
        declared = [axis for value in self.inputs.values() for axis in value.shape if isinstance(axis, str)]
        named = [axis for axes in self.dynamic_axes.values() for axis in axes.values()]
        return tuple(dict.fromkeys([*declared, *named]))

    def without_folders(self) -> ModuleSource:
        """The same without paths of this machine: of files, only their names are left."""
        names = {"path": self.path and Path(self.path).name, "weights": self.weights and Path(self.weights).name}
        return self.model_copy(update=names)


Source = Annotated[PackageSource | PathSource | HubSource | InitSource | ModuleSource, Field(discriminator="kind")]


class Model(Strict):
    """Which model, and where its files come from."""

    name: Name
    source: Source
