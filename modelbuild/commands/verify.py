"""`python -m modelbuild verify DIR`: whether a package is what was built, file by file, and who signed it."""

from __future__ import annotations

import json
from pathlib import Path

from modelbuild.arguments import PACKAGE, Parser
from modelbuild.errors import ConfigError
from modelbuild.package_files import verify_package
from modelbuild.package_folder import package_folder


def run(words: list[str]) -> int:
    """Compare the package with its manifest, and with a signature if one is given. Returns 0 where they agree.

    Raises PackageError, which names every difference, where they do not.
    """
    chosen = _parser().parse_args(words)
    if bool(chosen.signature) != bool(chosen.public_key):
        raise ConfigError("--signature and --public-key belong together", hint="give both, or neither")
    folder = package_folder(chosen.package)
    if chosen.signature:
        from modelbuild.signing import verify_signature

        manifest = verify_signature(folder, Path(chosen.signature), Path(chosen.public_key))
    else:
        manifest = verify_package(folder)
    signed = bool(chosen.signature)
    files = len(manifest.files) + 1  # and the manifest itself
    facts = {"package": manifest.name, "files": files, "verified": manifest.verified, "signed": signed}
    by_key = ", and signed by that key" if signed else ""
    proven = "" if manifest.verified else "; it was not proven (validation=off)"
    said = f"{manifest.name}: {files} files are what was built{by_key}{proven}"
    print(json.dumps(facts) if chosen.json else said)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m modelbuild verify", description=__doc__)
    parser.add_argument("package", metavar="PACKAGE", help=PACKAGE)
    parser.add_argument("--signature", metavar="FILE", help="a detached signature of it")
    parser.add_argument("--public-key", metavar="FILE", help="the key, in PEM, that it must be signed with")
    parser.add_argument("--json", action="store_true", help="print it for programs")
    return parser
