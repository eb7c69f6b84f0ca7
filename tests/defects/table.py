"""All defects, and docs/defects.md, which says what found each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from defects import arithmetic, files, masks, outputs, providers, shapes, sidecars, sources, weights
from defects.defect import Defect
from defects.models import MODELS

DEFECTS: tuple[Defect, ...] = tuple(
    defect
    for module in (weights, masks, shapes, outputs, arithmetic, files, sidecars, sources, providers)
    for defect in module.DEFECTS
)

# A signature is long, and ONNX Runtime's errors are.
_LONGEST = 240

_HEAD = """# Planted defects

Each row is a tiny model with one thing wrong in it. The second column is the model, the third the check of this project
that finds it and what it says. The last is what Optimum's own validation says of the same file, run as
`optimum-cli export onnx` runs it: once, on Optimum's own inputs, at its own tolerance.

- `caught`: the command ends with an error;
- `warned`: it prints a warning, and ends with 0;
- `missed`: it says nothing.

Neither says anything about the same models without a defect. What Optimum draws is seeded. The models have 300 tokens,
so that Optimum's 32 random tokens meet a wrong row of the embedding far more often than in a real vocabulary.

`tests/defects` plants the defects, runs the checks, and writes this page with `--write-tables`.
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What found one defect: the line of our check, and the place of the diagnosis if there is one; and Optimum's
    verdict.
    """

    defect: Defect
    said: str
    place: str
    optimum: str


def render(outcomes: Sequence[Outcome]) -> str:
    """The page."""
    rows = ["| defect | model | our check, and what it said | Optimum's validation |", "|---|---|---|---|"]
    for outcome in outcomes:
        defect = outcome.defect
        cells = (defect.name, MODELS[defect.model].words(), _ours(outcome), outcome.optimum)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([_HEAD, summary(outcomes), "", *rows, ""])


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many were found by whom."""
    ours = sum(bool(outcome.said) for outcome in outcomes)
    asked = [outcome.optimum for outcome in outcomes if not outcome.defect.optimum]
    caught, warned, missed = (sum(text.startswith(word) for text in asked) for word in ("caught", "warned", "missed"))
    return (
        f"**Of {len(outcomes)} defects this project finds {ours}. Of the {len(asked)} that are in the graph Optimum's "
        f"validation catches {caught}, warns of {warned} and misses {missed}.**"
    )


def verdicts(page: str) -> list[str]:
    """What of a page must not change without notice: defects, models, checks and verdicts, without numbers."""
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return [" | ".join((row[0], row[1], re.split(r"[`: ]", row[2])[1], row[-1])) for row in rows]


def _ours(outcome: Outcome) -> str:
    place = outcome.place.partition("; ")[0]
    shown = [f"`{_cell(text)}`" for text in (outcome.said, place) if text]
    return "; ".join(shown)


def _cell(text: str) -> str:
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")
