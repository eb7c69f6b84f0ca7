"""A user's own torch module, made by their own code. That code is run here, and nowhere else."""

from __future__ import annotations

import importlib
import random
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch

from modelbuild.errors import ExportError, first_line, listed
from modelbuild.model_spec import ModuleInput
from modelbuild.module_code import dotted_name
from modelbuild.module_weights import fill, require_unchanged, require_values
from modelbuild.stage_spec import ModuleFiles
from modelbuild.suggest import closest, did_you_mean

# Beyond it, whole numbers are not all numbers of fp64, in which bounds are.
_LARGEST = 2**53
_DTYPES = ("float32", "int64", "int32", "uint8", "bool")


class UserModule(torch.nn.Module):  # type: ignore[misc]  # torch gives its classes no types
    """A user's module, `model`, with what was said of it: its `files` in `folder`, and its inputs by name."""

    def __init__(
        self, model: torch.nn.Module, files: ModuleFiles, folder: Path, inputs: Mapping[str, ModuleInput]
    ) -> None:
        super().__init__()
        self.model = model
        self.files = files
        self.folder = folder
        self.inputs = dict(inputs)


def load_module(files: ModuleFiles, folder: Path, weights: Path | None) -> UserModule:
    """What the factory gives, in fp32 on the CPU, with the weights of the file `weights` where one was declared.

    Raises ExportError when a file changed, the code fails, there is no such factory or it gives no module, the weights
    do not fit, or the example inputs are no tensors.
    """
    declared = files.declared
    for name, expected in files.files.items():
        require_unchanged(folder / name, expected)
    with _seeded(declared.seed):
        code = _run(files, folder)
        hint = "correct it, or model.source.arguments"
        model = _called(code, declared.factory, declared.arguments, folder / files.main, folder, hint)
    if not isinstance(model, torch.nn.Module):
        raise ExportError(
            f"{declared.factory} gives {_kind(model)} and no torch.nn.Module",
            where=str(folder / files.main),
            hint="return the module from it",
        )
    require_values(model, str(folder / files.main))
    if files.weights:
        fill(model, files.weights, weights)
    inputs = _of_example(code, files, folder) if declared.example_inputs else declared.inputs
    return UserModule(model.to("cpu").float(), files, folder, inputs)


def described(error: BaseException, folder: Path) -> str:
    """What an error in the user's code says, of which class, and in which of the files in `folder` it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    where = f" ({Path(lines[-1].filename).relative_to(folder)} line {lines[-1].lineno})" if lines else ""
    return f"{type(error).__name__}: {first_line(error)}{where}"


class _Loader(SourceFileLoader):
    """Compiles a file anew, so that nothing is written beside it and nothing stale is read there."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return compile(self.get_data(path), path, "exec", dont_inherit=True)


class _Finder:
    """Finds the files that a user's module imports from beside itself, and nothing else."""

    of_a_build = True

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.known = {dotted_name(file): folder / file for file in files}
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The file of that module, or the folder of a package without an `__init__.py`."""
        if name in self.known:
            file = self.known[name]
            return spec_from_file_location(name, file, loader=_Loader(name, str(file)))
        if any(known.startswith(f"{name}.") for known in self.known):
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(self.folder.joinpath(*name.split(".")))]
            return spec
        return None

    def replaces(self, name: str, module: ModuleType | None) -> bool:
        """Whether a module of that name is one of these, and the loaded one another, or one of an earlier build."""
        if not any(name == known or known.startswith(f"{name}.") for known in self.known):
            return False
        if isinstance(getattr(module, "__loader__", None), _Loader):
            return True
        file = self.known.get(name)
        if file is None:  # a package without an `__init__.py`
            place = self.folder.joinpath(*name.split(".")).resolve()
            return place not in [Path(loaded).resolve() for loaded in getattr(module, "__path__", ())]
        return Path(getattr(module, "__file__", None) or "").resolve() != file.resolve()


def _run(files: ModuleFiles, folder: Path) -> ModuleType:
    """The user's module after its file was run, with imports from beside it, under a name that nothing else has."""
    finder = _Finder(folder, list(files.files))
    for name in [name for name, module in sys.modules.items() if finder.replaces(name, module)]:
        del sys.modules[name]
    # It stays, so that imports inside functions find their files too.
    sys.meta_path[:] = [finder, *(other for other in sys.meta_path if not isinstance(other, _Finder))]
    path = folder / files.main
    try:
        if files.declared.import_path:
            return importlib.import_module(files.declared.import_path)
        name = f"_modelbuild_user_{files.files[files.main][:16]}"
        spec = spec_from_file_location(name, path, loader=_Loader(name, str(path)))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        hint = "correct it"
        if isinstance(error, ImportError):
            hint = "install what it imports, or put it beside the file and import it in a statement of its own"
        if "relative import" in str(error):
            hint = "give the package with model.source.import_path, or import it without the dot"
        raise ExportError(f"it cannot be imported: {described(error, folder)}", where=str(path), hint=hint) from error
    return module


def _called(
    code: ModuleType, name: str, arguments: Mapping[str, Any], path: Path, folder: Path, hint: str = "correct it"
) -> Any:
    found = getattr(code, name, None)
    if not callable(found):
        own = [key for key, value in vars(code).items() if _is_own(code, value)]
        near = closest(name, own) or closest(name, [key for key in vars(code) if not key.startswith("_")])
        raise ExportError(
            f"there is no function or class '{name}'",
            where=str(path),
            hint=f"did you mean '{near}'?" if near else f"it has {listed(own, 8)}" if own else "define it",
        )
    try:
        return found(**arguments)
    except (Exception, SystemExit) as error:
        said = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ExportError(f"{name}({said}) raised {described(error, folder)}", where=str(path), hint=hint) from error


def _is_own(code: ModuleType, value: Any) -> bool:
    return callable(value) and getattr(value, "__module__", None) == code.__name__


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Every generator of random numbers starts from `seed`, and goes on afterwards where it was."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def _of_example(code: ModuleType, files: ModuleFiles, folder: Path) -> dict[str, ModuleInput]:
    """What the function for examples gives, as declarations: its axes named, its numbers the bounds of others."""
    declared, path = files.declared, folder / files.main
    with _seeded(declared.seed):
        example = _called(code, declared.example_inputs or "", {}, path, folder)
    tensors = isinstance(example, Mapping) and all(isinstance(value, torch.Tensor) for value in example.values())
    unnamed = [name for name in example if not isinstance(name, str)] if tensors else []
    if not tensors or not example or unnamed:
        what = f"{_kind(example)}{f' with the key {unnamed[0]!r}' if unnamed else ''}"
        raise ExportError(
            f"{declared.example_inputs} must give a dict of tensors, and gives {what}",
            where=str(path),
            hint='such as {"features": torch.zeros(2, 7, 16)}',
        )
    for name, axes in declared.dynamic_axes.items():
        if name not in example:
            raise ExportError(
                f"{declared.example_inputs} gives no input '{name}'",
                where="model.source.dynamic_axes",
                hint=did_you_mean(name, example),
            )
        beyond = [axis for axis in axes if not 0 <= axis < example[name].dim()]
        if beyond:
            raise ExportError(
                f"{name} has {example[name].dim()} axes, and no axis {beyond[0]}", where="model.source.dynamic_axes"
            )
    return {name: _from_tensor(name, value, declared.dynamic_axes.get(name, {})) for name, value in example.items()}


def _from_tensor(name: str, tensor: torch.Tensor, axes: Mapping[int, str]) -> ModuleInput:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise ExportError(
            f"{name} is {dtype}", where="model.source.example_inputs", hint=f"give one of {', '.join(_DTYPES)}"
        )
    bounds = _bounds(name, tensor) if tensor.numel() and dtype != "bool" else (0.0, 0.0)
    empty = next((place for place, size in enumerate(tensor.shape) if not size and place not in axes), None)
    if empty is not None:
        raise _no_example(f"axis {empty} of {name} has no size, and no name in model.source.dynamic_axes")
    constant = dtype == "float32" and bounds[0] == bounds[1]
    values: dict[str, Any] = {
        "dtype": dtype,
        "shape": tuple(axes.get(place, size) for place, size in enumerate(tensor.shape)),
        "between": None if constant or dtype == "bool" else bounds,
    }
    return ModuleInput.model_validate(values)


def _bounds(name: str, tensor: torch.Tensor) -> tuple[float, float]:
    """The smallest and the largest number of an example, which others are drawn between."""
    if tensor.is_meta or not bool(torch.isfinite(tensor).all()):
        raise _no_example(f"{name} has {'no numbers' if tensor.is_meta else 'numbers that are NaN or infinite'}")
    smallest, largest = tensor.min().item(), tensor.max().item()
    if not tensor.is_floating_point() and max(-smallest, largest) > _LARGEST:
        raise _no_example(f"{name} has numbers beyond {_LARGEST}")
    return float(smallest), float(largest)


def _no_example(what: str) -> ExportError:
    return ExportError(what, where="model.source.example_inputs", hint="give numbers such as the model will meet")
