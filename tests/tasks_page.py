"""`docs/tasks.md`: what the tables of the package say of every task, and what graphs its tiny models become."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from modelbuild.component import Component
from modelbuild.config.compose import compose
from modelbuild.config.location import groups, packaged
from modelbuild.families import FAMILIES
from modelbuild.families.split import components_of
from modelbuild.interface import Input, Output
from modelbuild.model_spec import InitSource
from modelbuild.reference import load_reference
from modelbuild.stage_spec import StageModel
from modelbuild.tasks import TASKS, Task

PAGE = Path(__file__).parents[1] / "docs" / "tasks.md"

_HEAD = """\
# Tasks

What can be built. `task=auto` reads the task from the checkpoint's `architectures`; `task=<name>` says it. A task that
a model's type does not have is refused with those that it has. Every model below has a preset,
`build=<model>-tiny-<task>`: the real architecture, tiny, with random weights.

`tests/test_tasks_page.py` writes this page, with `--write-tables`, from `TASKS`, `FAMILIES` and the presets.
"""
_GRAPHS = """\
## Graphs

The graphs of the first model of each task, with their place in the package. Outputs are shown with their leading axes:
of `scores` the largest is compared too, of `embeddings` the direction. `N` is the number of a layer.
"""


def page() -> str:
    """The whole page."""
    families = [["family", "what it is"], *([f"`{name}`", _purpose(module)] for name, module in FAMILIES.items())]
    rows = [["task", "family", "models tried", "Optimum class", "pipeline", "preprocessors"]]
    rows += [_row(task) for task in TASKS.values()]
    graphs = [["task", "file", "inputs", "outputs"]]
    graphs += [[_code([task.name]), *_cells(graph)] for task in TASKS.values() for graph in graphs_of(task)]
    return "\n".join([_HEAD, *_table(families), "", *_table(rows), "", _GRAPHS, *_table(graphs), ""])


def models_tried(task: Task) -> list[str]:
    """The models that have a preset for `task`."""
    ending = f"-tiny-{task.name}"
    return [name.removesuffix(ending) for name in groups(Path("/"))["build"] if name.endswith(ending)]


def graphs_of(task: Task) -> tuple[Component, ...]:
    """The graphs that the first model tried becomes."""
    for model in models_tried(task)[:1]:
        source = compose([f"build={model}-tiny-{task.name}"], Path("/")).spec.model.source
        assert isinstance(source, InitSource), "a tiny model is made, not found"
        return components_of(load_reference(StageModel(source=source), task, None), task)
    return ()


def _purpose(module: str) -> str:
    """The first line of a family's module."""
    path = packaged("conf").parent / f"{module.replace('.', '/')}.py"
    return (ast.get_docstring(ast.parse(path.read_bytes())) or "").partition("\n")[0]


def _row(task: Task) -> list[str]:
    optimum, pipeline = ([name] if name else [] for name in (task.optimum_class, task.pipeline))
    return [
        _code([task.name]), _code([task.family]), ", ".join(models_tried(task)), _code(optimum), _code(pipeline),
        _code(task.preprocessors),
    ]  # fmt: skip


def _cells(graph: Component) -> list[str]:
    interface = graph.interface
    return [_code([graph.file]), _values(interface.inputs), _values(interface.outputs)]


def _values(values: Sequence[Input | Output]) -> str:
    """Names with what they have in common, layer by layer written once."""

    def common(value: Input | Output) -> str:
        kind = value.dtype if isinstance(value, Input) else value.meaning
        return f"{kind} of {' × '.join(map(str, value.shape))}" if value.shape else f"one {kind}"

    grouped = itertools.groupby(values, key=common)
    return "; ".join(dict.fromkeys(f"{_code(_once(value.name for value in group))}: {kind}" for kind, group in grouped))


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "N", name) for name in names))


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = (f"| {' | '.join(cell or '–' for cell in row)} |" for row in rows)
    return [head, "|---" * len(rows[0]) + "|", *body]
