"""Checkpoints in half precision as checkpoints in fp32, converted on disk.

Who reads the copy maps it into memory, as it would the original, so that a model never has all of its weights in
memory of its own. Every fp16 and bf16 number is one of fp32, so that nothing is lost or rounded.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from modelbuild.model_files import SAFE_SUFFIX

_HALVES = ("F16", "BF16")
_LENGTH_BYTES, _CHUNK_BYTES = 8, 16 << 20
# Headers are padded so that tensors begin where every type may.
_ALIGNMENT = 8
Header = dict[str, dict[str, Any]]


@contextmanager
def in_single_precision(folder: Path, names: Collection[str], scratch: Path) -> Iterator[Path]:
    """A folder with the files `names` of `folder`, in which no safetensors file has a tensor in half precision:
    `folder` itself where that is so already, else one in `scratch` that is gone when this ends.
    """
    halves = [name for name in names if name.endswith(SAFE_SUFFIX) and _has_halves(folder / name)]
    if not halves:
        yield folder
        return
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".fp32.") as made:
        for name in names:
            target = Path(made) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name in halves:
                convert(folder / name, target)
            elif (folder / name).is_file():
                target.symlink_to((folder / name).resolve())
        yield Path(made)


def convert(source: Path, target: Path) -> None:
    """Write the safetensors file `source` to `target` with its fp16 and bf16 tensors in fp32, a few MB at a time."""
    with source.open("rb") as stream, target.open("wb") as out:
        header, metadata = _read_header(stream)
        start = stream.tell()
        ordered = sorted(header, key=lambda name: header[name]["data_offsets"])
        _write_header(out, {name: header[name] for name in ordered}, metadata)
        for name in ordered:
            begin, end = header[name]["data_offsets"]
            stream.seek(start + begin)
            _copy(stream, out, end - begin, header[name]["dtype"])


def _has_halves(path: Path) -> bool:
    """Whether there is anything to convert. What is damaged is left as it is, for who reads it to say so."""
    try:
        with path.open("rb") as stream:
            entries = _read_header(stream)[0].values()
            end = stream.tell() + max((entry["data_offsets"][1] for entry in entries), default=0)
        return end == path.stat().st_size and any(entry["dtype"] in _HALVES for entry in entries)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError):
        return False


def _read_header(stream: BinaryIO) -> tuple[Header, Mapping[str, str] | None]:
    header = json.loads(stream.read(int.from_bytes(stream.read(_LENGTH_BYTES), "little")))
    metadata = header.pop("__metadata__", None)
    return header, metadata


def _write_header(out: BinaryIO, header: Header, metadata: Mapping[str, str] | None) -> None:
    sizes = [_size(entry) for entry in header.values()]
    entries: dict[str, Any] = {
        name: {
            "dtype": "F32" if entry["dtype"] in _HALVES else entry["dtype"],
            "shape": entry["shape"],
            "data_offsets": [end - size, end],
        }
        for (name, entry), size, end in zip(header.items(), sizes, accumulate(sizes), strict=True)
    }
    text = json.dumps(({"__metadata__": metadata} if metadata is not None else {}) | entries).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    out.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)


def _size(entry: Mapping[str, Any]) -> int:
    begin, end = entry["data_offsets"]
    return int(4 * prod(entry["shape"]) if entry["dtype"] in _HALVES else end - begin)


def _copy(stream: BinaryIO, out: BinaryIO, size: int, dtype: str) -> None:
    for done in range(0, size, _CHUNK_BYTES):
        chunk = stream.read(min(_CHUNK_BYTES, size - done))
        if dtype == "F16":
            out.write(np.frombuffer(chunk, "<f2").astype("<f4").data)
        elif dtype == "BF16":  # the upper half of a float
            out.write((np.frombuffer(chunk, "<u2").astype("<u4") << 16).data)
        else:
            out.write(chunk)
