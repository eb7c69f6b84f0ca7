"""What libraries do when they are imported, done faster, for every process that has PyTorch and transformers.

What is imported stays as it is. These are habits of versions that are pinned; where a library has lost one, nothing is
changed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

# Imported by others at once, and used by them seldom: sizes of onnx_ir are names until one computes with them.
_SELDOM_USED = ("sympy", "onnx_ir._symbolic_shapes")


def import_quickly() -> None:
    """For what this process imports from now on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the modules that are changed once they are there or not executed before they are used, and no others."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _CHANGES and name not in _SELDOM_USED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Changed(spec.loader, _CHANGES[name]) if name in _CHANGES else LazyLoader(spec.loader)
        return spec


class _Changed(Loader):
    """Loads a module as another loader does, and then changes it."""

    def __init__(self, loader: Loader, change: Callable[[Any], None]) -> None:
        self._loader, self._change = loader, change

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _look_at_models_once(module: Any) -> None:
    """transformers looks for names in all of its 1957 files of models, twice: what it remembers of the first time are
    the last 128 of its 384 folders. Of each file it looks at every line, for the last one that begins with `__all__`.
    """
    look, read = module.fetch__all__, getattr(module.create_import_structure_from_path, "__wrapped__", None)

    def fetch_all(content: str) -> list[str]:
        names: list[str] = look(content[max(content.rfind("\n__all__") + 1, 0) :])
        return names

    module.fetch__all__ = fetch_all
    if read:
        module.create_import_structure_from_path = cache(read)


def _name_the_line(module: Any) -> None:
    """torch notes where each of its operators is registered, and reads the source around for it."""

    def get_source(stacklevel: int) -> str:
        frame = inspect.currentframe()
        for _ in range(stacklevel):
            frame = frame and frame.f_back
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "unknown"

    if hasattr(module, "get_source"):
        module.get_source = get_source


_CHANGES: dict[str, Callable[[Any], None]] = {
    "transformers.utils.import_utils": _look_at_models_once,
    "torch._library.utils": _name_the_line,
}
