"""`python -m modelbuild sign PACKAGE`: a signature of every file of a package, to be kept beside it."""

from __future__ import annotations

from pathlib import Path

from modelbuild.arguments import PACKAGE, Parser
from modelbuild.package_folder import package_folder
from modelbuild.registry.references import SCHEME
from modelbuild.signing import sign


def run(words: list[str]) -> int:
    """Sign the package that `words` name, and print the path of the signature. Returns 0.

    Raises PackageError where the package is not what was built, ConfigError for what is no key and for a signature that
    would lie in a registry or in the place of a file, and HostError where model-signing is not installed.
    """
    parser = Parser(prog="python -m modelbuild sign", description=__doc__)
    parser.add_argument("package", metavar="PACKAGE", help=PACKAGE)
    parser.add_argument(
        "--private-key", metavar="FILE", required=True, help="an elliptic-curve key in PEM, without password"
    )
    parser.add_argument("--signature", metavar="FILE", help="the file to write; <package>.sig beside it if not given")
    chosen = parser.parse_args(words)
    if chosen.package.startswith(SCHEME) and not chosen.signature:
        parser.error("a signature is not kept in a registry: --signature must say where")
    package = package_folder(chosen.package)
    signature = Path(chosen.signature or f"{package.resolve()}.sig")
    sign(package, signature, Path(chosen.private_key))
    print(signature)
    return 0
