"""Weight files on disk: which ones a model is read from, and whether they are whole. It loads no library of tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors

from modelbuild.errors import ExportError, listed
from modelbuild.model_files import INDEX_SUFFIX, PICKLE_SUFFIX, SAFE_SUFFIX, TRANSFORMERS_WEIGHTS

Shape = tuple[int, ...]
Names = tuple[tuple[str, ...], tuple[str, ...]]

_LFS_POINTER = b"version https://git-lfs"
_FETCH = "fetch the model again"
# A safetensors file begins with the length of its header in 8 bytes; the format allows no header over 100 MB.
_LENGTH_BYTES, _LONGEST_HEADER = 8, 100_000_000
_OF_PYTORCH = (None, "pt", "mlx")
# What people have instead, to be named when there are no weights that can be read.
_OTHER_WEIGHTS = ("*.safetensors", "*.bin", "*.h5", "*.msgpack", "*.gguf", "*.pt", "*.pth", "*.ckpt*", "*.onnx")


def weight_files(folder: Path, *, allow_pickle: bool, names: Names = TRANSFORMERS_WEIGHTS) -> list[str]:
    """The names of the files in `folder` that the weights are read from, each checked: present, plain and whole.

    They are called by `names`: safetensors go before pickles, one file before shards, as in transformers; other weight
    files are not read. Raises ExportError for pickles unless `allow_pickle`, and for links that lead nowhere, Git LFS
    pointers, cut-off and damaged files, missing shards, and tensors that are not in the shard where the index has them.
    """
    safe, pickled = (_first(folder, kind) for kind in names)
    if safe is None and pickled is not None and not allow_pickle:
        raise ExportError(
            "only pickled weights, which can run code when they are read",
            where=str(folder / pickled),
            hint=f"convert them to {names[0][0]}, or set model.source.allow_pickle=true",
        )
    first = safe or pickled
    if first is None:
        found = sorted({path.name for glob in _OTHER_WEIGHTS for path in folder.glob(glob)})
        raise ExportError(
            "no weights",
            where=str(folder),
            hint=f"expected {names[0][0]}" + (f", found {', '.join(found[:4])}" if found else ""),
        )
    require_file(folder / first)
    if not first.endswith(INDEX_SUFFIX):
        _tensors(folder / first)
        return [first]
    return [first, *_shards(folder / first)]


def require_file(path: Path) -> None:
    """Raise ExportError unless `path` is a file, or a link to one."""
    if path.is_symlink() and not path.exists():
        raise ExportError(f"a broken link to {path.readlink()}", where=str(path), hint=_FETCH)
    if not path.is_file():
        raise ExportError("not a file", where=str(path), hint=_FETCH)


def stored_shapes(path: Path) -> dict[str, Shape]:
    """The shape of each tensor of a safetensors file, from its header. Raises ExportError unless it is whole."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_LENGTH_BYTES)
        length = int.from_bytes(head, "little")
        if len(head) < _LENGTH_BYTES or length > _LONGEST_HEADER:
            raise _damaged(path, "its first 8 bytes are not the length of a header")
        start = _LENGTH_BYTES + length
        if start > size:
            raise _truncated(path, start, size)
        text = stream.read(length)
    header = _header(path, text)
    promised = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if promised > size:
        raise _truncated(path, promised, size)
    try:
        with safetensors.safe_open(path, "numpy"):  # it checks all the rest: types, shapes, gaps and overlaps
            return {name: tuple(entry["shape"]) for name, entry in header.items()}
    except safetensors.SafetensorError as error:
        raise _damaged(path, str(error)) from error


def _first(folder: Path, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if (folder / name).exists() or (folder / name).is_symlink()), None)


def _tensors(path: Path) -> dict[str, Shape] | None:
    """The tensors of a weight file, None for a pickle, which is not opened here."""
    require_file(path)
    with path.open("rb") as stream:
        head = stream.read(len(_LFS_POINTER))
    if not head:
        raise ExportError(f"{path.name} is empty", where=str(path), hint=_FETCH)
    if head == _LFS_POINTER:
        raise ExportError("a Git LFS pointer, not weights", where=str(path), hint="run 'git lfs pull'")
    return stored_shapes(path) if path.name.endswith(SAFE_SUFFIX) else None


def _shards(index: Path) -> list[str]:
    """The shards that an index names, in order, each with the tensors that it should have."""
    placed = _weight_map(index)
    suffix = SAFE_SUFFIX if index.name.endswith(SAFE_SUFFIX + INDEX_SUFFIX) else PICKLE_SUFFIX
    shards = sorted(set(placed.values()))
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(suffix):
            raise ExportError(f"{index.name} names '{shard}', which is no {suffix} file beside it", where=str(index))
        path = index.parent / shard
        if not path.exists() and not path.is_symlink():
            raise ExportError(
                f"shard {shard} is named in {index.name} and missing", where=str(index.parent), hint=_FETCH
            )
        tensors = _tensors(path)
        lost = [
            name for name, place in placed.items() if place == shard and tensors is not None and name not in tensors
        ]
        if lost:
            raise ExportError(
                f"tensor {listed(lost, 1)} not in {shard}, where {index.name} has it", where=str(path), hint=_FETCH
            )
    return shards


def _weight_map(index: Path) -> dict[str, str]:
    try:
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not placed or not all(isinstance(shard, str) for shard in placed.values()):
            raise ValueError("it names no shards")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(f"{index.name} is not an index of shards: {error}", where=str(index), hint=_FETCH) from error
    return dict(placed)


def _header(path: Path, text: bytes) -> dict[str, Any]:
    """The entries of the tensors in a header, whose library is one that PyTorch can read after."""
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", None)
        library = metadata["format"] if metadata is not None else None
        for entry in header.values():
            int(entry["data_offsets"][1]), tuple(entry["shape"])
    except KeyError as error:
        if error.args == ("format",):
            library = "an unnamed library"
        else:
            raise _damaged(path, f"its header lacks {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read: {error}") from error
    if library not in _OF_PYTORCH:
        raise ExportError(
            f"{path.name} was written by {library}, not by PyTorch",
            where=str(path),
            hint="save it with save_pretrained",
        )
    return dict(header)


def _truncated(path: Path, promised: int, size: int) -> ExportError:
    return ExportError(
        f"{path.name} is truncated (the header promises {_amount(promised, size)}, "
        f"the file has {_amount(size, promised)})",
        where=str(path),
        hint=_FETCH,
    )


def _damaged(path: Path, why: str) -> ExportError:
    return ExportError(f"{path.name} is not a safetensors file, or is damaged: {why}", where=str(path), hint=_FETCH)


def _amount(size: int, other: int) -> str:
    """A size to be told from the `other`: in MB, and in bytes where MB would say the same of both, or nothing."""
    apart = round(size / 1e6, 1) != round(other / 1e6, 1)
    return f"{size / 1e6:.1f} MB" if apart and max(size, other) >= 1_000_000 else f"{size} bytes"
