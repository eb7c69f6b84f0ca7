"""Libraries of custom operators: native code that ONNX Runtime loads into the process. To load one is to trust it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import _pybind_state

from modelbuild.errors import ConfigError, HostError, ModelbuildError, first_line
from modelbuild.suggest import closest

_SELF = Path("/proc/self/exe")
_ELF, _SHARED = b"\x7fELF", 3
_HEADER_BYTES = 20
_KEY = "check session.custom_ops"
# By the number that an ELF file has for each.
_MACHINES = {3: "x86", 8: "MIPS", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "RISC-V"}


def register(options: ort.SessionOptions, libraries: Sequence[str]) -> None:
    """Register the operators of the files `libraries` with `options`, in order.

    Raises ConfigError for what is no library of custom operators, and HostError for one that this machine cannot load.
    """
    for library in libraries:
        path = Path(os.path.abspath(library))  # noqa: PTH100 - a bare name is looked for elsewhere, and a link stays one
        _require_file(path)
        _require_for_this_machine(path)
        try:
            options.register_custom_ops_library(os.fspath(path))
        except Exception as error:
            raise _cannot_load(path, error) from error


def known_operators() -> frozenset[str]:
    """The operators of other domains than ONNX's own that ONNX Runtime itself has: `com.microsoft.Attention`."""
    schemas = _pybind_state.get_all_operator_schema()
    return frozenset(f"{schema.domain}.{schema.name}" for schema in schemas if schema.domain)


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise ConfigError("a folder, where a library of custom operators is wanted", where=str(path), hint=_KEY)
    near = closest(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else None
    raise ConfigError(
        "no such library of custom operators",
        where=str(path),
        hint=f"did you mean '{path.parent / near}'?" if near else _KEY,
    )


def _require_for_this_machine(path: Path) -> None:
    """The loader says "no such file" of a library for another processor, and "invalid ELF header" of a text."""
    if not _SELF.exists():
        return  # not Linux, and no ELF: the loader's own words have to do
    ours, theirs = _header(_SELF), _header(path)
    if not theirs.startswith(_ELF) or len(theirs) < _HEADER_BYTES or _number(theirs, 16) != _SHARED:
        raise ConfigError("not a shared library", where=str(path), hint="link it with -shared, from code with -fPIC")
    if _kind(ours) != _kind(theirs):
        raise HostError(
            f"the library is for {_machine(theirs)}, and this Python for {_machine(ours)}",
            where=str(path),
            hint="compile it for this machine, or build on one that it is for",
        )


def _header(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEADER_BYTES)


def _number(header: bytes, at: int) -> int:
    return int.from_bytes(header[at : at + 2], "little" if header[5] == 1 else "big")


def _kind(header: bytes) -> tuple[bytes, int]:
    """Word size, byte order and processor."""
    return header[4:6], _number(header, 18)


def _machine(header: bytes) -> str:
    number = _number(header, 18)
    return f"{_MACHINES.get(number, f'processor {number}')} ({32 * header[4]} bit)"


def _cannot_load(path: Path, error: Exception) -> ModelbuildError:
    said = first_line(error)
    if "symbol RegisterCustomOps" in said:
        return ConfigError(
            "the library has no function RegisterCustomOps",
            where=str(path),
            hint='it is no library of custom operators, or does not export the function (extern "C")',
        )
    reason = re.sub(
        r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Failed to load library .*? with error: )?", "", said
    ).replace(f"{path}: ", "")
    return HostError(
        f"ONNX Runtime {ort.__version__} cannot load the library: {reason}",
        where=str(path),
        hint="'ldd' shows what it needs; compile it for this machine and this release",
    )
