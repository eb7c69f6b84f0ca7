"""`python -m modelbuild gc`: delete what no build refers to."""

from __future__ import annotations

from pathlib import Path

from modelbuild.arguments import Parser
from modelbuild.pipeline.gc import collect
from modelbuild.pipeline.project import Workspace
from modelbuild.render.terminal import print_collected


def run(words: list[str]) -> int:
    """Collect, with the flags in `words`, and print what went. Returns 0."""
    parser = Parser(prog="python -m modelbuild gc", description=__doc__)
    parser.add_argument("--dry", action="store_true", help="only say what would be deleted")
    parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="also delete ad hoc builds untouched for so long"
    )
    chosen = parser.parse_args(words)
    workspace = Workspace(Path.cwd())
    workspace.prepare()
    print_collected(collect(workspace, older_than_days=chosen.older_than, dry=chosen.dry), dry=chosen.dry)
    return 0
