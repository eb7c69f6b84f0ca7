"""`python -m modelbuild.runtime PACKAGE`: open a package, check it, and run it on arrays from a file.

Needs numpy and onnxruntime alone, as everything in `modelbuild.runtime`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import traceback
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild.arguments import PACKAGE, Parser
from modelbuild.digest import write_bytes
from modelbuild.errors import ConfigError, InputError, ModelbuildError, PackageError, first_line, unforeseen
from modelbuild.runtime.load import load
from modelbuild.runtime.timing import golden_latency

# What a shell says of a command that SIGPIPE ended.
_BROKEN_PIPE = 141


def main(words: list[str] | None = None) -> int:
    """Do what the command line says, and return the exit code: 0, or that of the error, which is one line."""
    debug = False
    try:
        chosen = _parser().parse_args(words)
        debug = chosen.debug
        _do(chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - whatever it is becomes a line
        if debug:
            traceback.print_exc()
        known = error if isinstance(error, ModelbuildError) else unforeseen(error)
        print(*known.lines(), sep="\n", file=sys.stderr)
        return known.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m modelbuild.runtime", description=__doc__.splitlines()[0])
    parser.add_argument("package", metavar="PACKAGE", help=PACKAGE)
    parser.add_argument("--providers", metavar="NAME,...", help="instead of those that it was built for")
    parser.add_argument("--graph", metavar="NAME", help="the graph to run, where the package has several")
    parser.add_argument("--inputs", metavar="NPZ", type=Path, help="run it on the arrays in this file")
    parser.add_argument("--outputs", metavar="NPZ", type=Path, help="and write what comes out to this one")
    parser.add_argument("--time", action="store_true", help="time the golden inputs as well")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return parser


def _require_sense(chosen: argparse.Namespace) -> None:
    if bool(chosen.inputs) != bool(chosen.outputs):
        raise ConfigError("--inputs and --outputs belong together", hint="give both, or neither")
    if chosen.outputs and chosen.outputs.exists() and not chosen.outputs.is_file():
        raise ConfigError("it is no file", where=str(chosen.outputs), hint="--outputs names a file to write")
    if chosen.outputs and not chosen.outputs.parent.is_dir():
        raise ConfigError(
            "no such folder", where=str(chosen.outputs.parent), hint="make it, or choose another --outputs"
        )
    if chosen.inputs and chosen.inputs.resolve() == chosen.outputs.resolve():
        raise ConfigError("--outputs would overwrite --inputs", where=str(chosen.outputs), hint="choose another file")
    if chosen.graph and not chosen.inputs:
        raise ConfigError("--graph says which graph runs --inputs", hint="give --inputs and --outputs too")


def _do(chosen: argparse.Namespace) -> None:
    _require_sense(chosen)
    with load(chosen.package, providers=None if chosen.providers is None else chosen.providers.split(",")) as model:
        if chosen.inputs:
            _write(chosen.outputs, model.run(_arrays(chosen.inputs), graph=chosen.graph))
            return
        health = model.health()
        facts = {
            "package": model.manifest.name,
            "digest": model.digest,
            "verified": model.manifest.verified,
            "providers": model.providers,
            "healthy": health.passed,
            "outputs": [vars(difference) for difference in health.outputs],
        }
        print(json.dumps(facts | (golden_latency(model) if chosen.time else {}), indent=2))
        if not health.passed:
            raise PackageError(health.problem, where=str(chosen.package))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    hint = "write it with numpy.savez"
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise InputError("one array without a name", where=str(path), hint=hint)
        with file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path), hint=hint) from error
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"no arrays can be read: {first_line(error)}", where=str(path), hint=hint) from error


def _write(path: Path, outputs: dict[str, Any]) -> None:
    """What `numpy.savez` writes, to this very name, and for outputs of any name; whole or not at all."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    write_bytes(path, content.getvalue())


if __name__ == "__main__":
    raise SystemExit(main())
