"""`python -m modelbuild package PACKAGE --for TARGET`: what another system needs to run a package."""

from __future__ import annotations

import json
from pathlib import Path

from modelbuild.arguments import PACKAGE, Parser
from modelbuild.deployment import TARGETS
from modelbuild.deployment.deploy import deploy
from modelbuild.deployment.options import Options
from modelbuild.manifest import read_manifest
from modelbuild.package_folder import package_folder


def run(words: list[str]) -> int:
    """Make the folder that `words` ask for, and print its path. Returns 0.

    Raises PackageError for a package that is damaged or cannot run there, HostError where the folder is not empty, and
    ConfigError for a batch that the model cannot take.
    """
    parser = _parser()
    chosen = parser.parse_args(words)
    if chosen.max_batch_size is not None and chosen.max_batch_size < 1:
        parser.error(f"argument --max-batch-size: {chosen.max_batch_size} is below 1")
    package = package_folder(chosen.package)
    out = Path(chosen.out or f"{read_manifest(package).name}-{chosen.target}")
    files = deploy(chosen.target, package, out, Options(max_batch_size=chosen.max_batch_size))
    print(json.dumps({"folder": str(out), "files": list(map(str, files))}) if chosen.json else out)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m modelbuild package", description=__doc__)
    parser.add_argument("package", metavar="PACKAGE", help=PACKAGE)
    parser.add_argument("--for", dest="target", choices=sorted(TARGETS), required=True, help="for which system")
    parser.add_argument("--out", metavar="DIR", help="the folder to make; <name>-<target> if not given")
    parser.add_argument(
        "--max-batch-size",
        type=int,
        metavar="N",
        help="triton: put so many rows together; none if not given",
    )
    parser.add_argument("--json", action="store_true", help="print it for programs")
    return parser
