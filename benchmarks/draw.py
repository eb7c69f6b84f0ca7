"""Draws docs/benchmarks.md, its charts, and the figures that other pages quote, from the results in this folder.

    python benchmarks/draw.py

Nothing is measured here. A test compares what is drawn with what is committed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cost_sections
import speed_sections
from summary import summary
from tables import Result, Results

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "benchmarks.md"
# The pages beside our own in which blocks between these marks are drawn.
QUOTING = (HERE.parent / "README.md", DOCS / "decisions.md")
_BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)

_HEAD = """\
# Benchmarks

Every figure here, and every figure of other pages that names a file of `benchmarks/`, is drawn from the results that
are committed there, by `python benchmarks/draw.py`. Each result is written by the script of its name, which says with
`--help` what it does, and anyone can run it:

```sh
python benchmarks/build_cost.py --out benchmarks/build_cost.json
```

Scripts that compare make the environments of the others themselves, from the versions in `benchmarks/optimum.txt` and
`benchmarks/olive.txt`, and models with seeded random weights; both are kept in `benchmarks/.work`. What is compared
runs side by side, in rounds. Figures are medians, with the lowest and the highest in brackets, or with a 95 % interval
where that is said.
"""


def read_results(folder: Path = HERE) -> dict[str, Result]:
    """The results in `folder`, by the name of their script."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def page(results: Results) -> str:
    """`docs/benchmarks.md`: a section for every result that there is."""
    parts = [f"{section(results[name])}\n" for name, section in SECTIONS.items() if name in results]
    return "\n".join([_HEAD, *parts]).rstrip("\n") + "\n"


def figures_of(results: Results) -> dict[str, str]:
    """The charts by file name."""
    found: dict[str, str] = {}
    for name, draw in CHARTS.items():
        if name in results:
            found |= draw(results[name])
    return found


SECTIONS: dict[str, Callable[[Result], str]] = {
    "build_cost": cost_sections.build_cost,
    "artifact_speed": speed_sections.artifact_speed,
    "memory_of_export": cost_sections.memory,
    "sweep_cost": cost_sections.sweep,
    "noop": cost_sections.noop,
    "validation_cost": cost_sections.validation,
    "runtime_cost": cost_sections.runtime,
}
CHARTS: dict[str, Callable[[Result], dict[str, str]]] = {
    "build_cost": cost_sections.build_charts,
    "artifact_speed": speed_sections.speed_charts,
    "memory_of_export": cost_sections.memory_charts,
    "sweep_cost": cost_sections.sweep_charts,
}


BLOCKS: dict[str, Callable[[Results], str]] = {"summary": summary}


def fill(text: str, results: Results) -> str:
    """`text` with every block of figures as the results have it. Raises ValueError for a block that there is not."""

    def drawn(found: re.Match[str]) -> str:
        if found[2] not in BLOCKS:
            raise ValueError(f"there is no block of figures '{found[2]}': choose {', '.join(BLOCKS)}")
        return f"{found[1]}{BLOCKS[found[2]](results)}\n{found[3]}"

    return _BLOCK.sub(drawn, text)


def quotable(results: Results) -> list[str]:
    """Sentences, or parts of them, that a page may have beside the name of a result."""
    said = []
    if "validation_cost" in results:
        shares = results["validation_cost"]["ratios_to_export"]
        times = {1: "as much as", 2: "twice", 3: "three times"}[round(shares["strict"]["median"])]
        said.append(
            f"Validation of BERT-base costs {shares['quick']['median']:.1f} of its export in quick and {times} its "
            "export in strict"
        )
    if "noop" in results:
        said.append(f"{results['noop']['noop_s']:.2g} s, {results['noop']['ratio']:.2g} times")
    return said


def files(results: Results) -> dict[Path, str]:
    """Everything that is drawn, by the file that it goes into."""
    quoting = {path: fill(path.read_text(encoding="utf-8"), results) for path in QUOTING}
    return {PAGE: page(results)} | {DOCS / name: text for name, text in figures_of(results).items()} | quoting


def main() -> None:
    """Write what is drawn."""
    for path, text in files(read_results()).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(HERE.parent))


if __name__ == "__main__":
    main()
