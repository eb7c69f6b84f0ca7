"""`python -m modelbuild diff A B`: what is different in package B from package A."""

from __future__ import annotations

import json
from dataclasses import asdict

from modelbuild.arguments import PACKAGE, Parser
from modelbuild.package_diff import diff
from modelbuild.package_folder import package_folder
from modelbuild.render.diff import print_diff


def run(words: list[str]) -> int:
    """Print what is different between the packages that `words` name. Returns 0, whether there is something or not.

    Raises PackageError where one of them is no package.
    """
    chosen = _parser().parse_args(words)
    found = diff(package_folder(chosen.before), package_folder(chosen.after))
    if chosen.json:
        print(json.dumps(asdict(found) | {"same": found.same}, indent=2, allow_nan=False))
    else:
        print_diff(found, chosen.before, chosen.after)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m modelbuild diff", description=__doc__)
    parser.add_argument("before", metavar="A", help=f"a package: {PACKAGE}")
    parser.add_argument("after", metavar="B", help="another one")
    parser.add_argument("--json", action="store_true", help="print it for programs")
    return parser
