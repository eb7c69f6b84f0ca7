"""`python -m modelbuild gc`: delete what no build refers to."""

from __future__ import annotations

import argparse
from pathlib import Path

from modelbuild.errors import ConfigError
from modelbuild.pipeline.gc import collect
from modelbuild.pipeline.project import Workspace
from modelbuild.render.terminal import print_collected


def run(words: list[str]) -> int:
    """Collect, with the flags in `words`, and print what went. Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m modelbuild gc", description=__doc__, exit_on_error=False)
    parser.add_argument("--dry", action="store_true", help="only say what would be deleted")
    parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="also delete ad hoc builds untouched for so long"
    )
    try:
        chosen, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ConfigError(str(error), hint="see python -m modelbuild gc --help") from error
    if unknown:
        raise ConfigError(f"gc does not take {' '.join(unknown)}", hint="see python -m modelbuild gc --help")
    workspace = Workspace(Path.cwd())
    workspace.prepare()
    print_collected(collect(workspace, older_than_days=chosen.older_than, dry=chosen.dry), dry=chosen.dry)
    return 0
