"""The page of tasks says what the tables say."""

from __future__ import annotations

import pytest
from tasks_page import PAGE, graphs_of, models_tried, page

from modelbuild.tasks import TASKS, Task


@pytest.mark.slow
def test_the_page_of_tasks_is_what_the_tables_say(request: pytest.FixtureRequest) -> None:
    written = page()
    if request.config.getoption("--write-tables"):
        PAGE.write_text(written, encoding="utf-8")
    stale = "stale: python -m pytest tests/test_tasks_page.py --write-tables"
    assert PAGE.read_text(encoding="utf-8") == written, stale


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.auto_class], ids=lambda task: task.name)
def test_every_task_has_a_preset_with_a_tiny_model(task: Task) -> None:
    assert models_tried(task)


@pytest.mark.parametrize(
    "task", [task for task in TASKS.values() if str(task.family) == "text"], ids=lambda task: task.name
)
def test_a_text_model_is_one_graph_with_the_outputs_of_its_task(task: Task) -> None:
    (graph,) = graphs_of(task)
    assert graph.interface.output_names() == task.output_names()
