from __future__ import annotations

import json
from typing import Any

import pytest

from modelbuild.errors import PackageError
from modelbuild.hierarchy import Coverage, Hierarchy, Module, summary

SMALL = Hierarchy(
    strategy="dynamo",
    exported=Coverage(nodes=10, tagged_nodes=8, tags={"exporter": 7, "inferred": 2}),
    modules={
        "": Module(class_name="Model", nodes=1, shipped_nodes=1),
        "layers": Module(class_name="ModuleList"),
        "layers.0": Module(class_name="Linear", parameters=6, nodes=3, shipped_nodes=1),
        "layers.1": Module(class_name="Linear", parameters=4, nodes=2),
        "layers.1.inner": Module(class_name="ReLU", nodes=2, shipped_nodes=1),
    },
    shipped=Coverage(nodes=4, tagged_nodes=3, tags={"value": 3}),
)


def test_a_hierarchy_survives_json_before_and_after_optimization() -> None:
    before = Hierarchy(strategy="file", exported=SMALL.exported, modules={"": Module(class_name="Model", nodes=8)})
    for hierarchy in (SMALL, before):
        assert Hierarchy.of_facts(json.loads(json.dumps(hierarchy.facts()))) == hierarchy


def test_facts_count_nodes_by_module_and_modules_by_class() -> None:
    facts = SMALL.facts()
    assert facts["modules"] == {"": 1, "layers.0": 3, "layers.1": 2, "layers.1.inner": 2}
    assert facts["module_types"] == {"Linear": 2, "Model": 1, "ModuleList": 1, "ReLU": 1}
    assert (facts["nodes"], facts["tagged_nodes"], facts["tagged_share"]) == (10, 8, 0.8)
    assert (facts["shipped_nodes"], facts["shipped_tagged_nodes"]) == (4, 3)


def test_tags_that_name_no_module_of_the_model_are_astray() -> None:
    assert SMALL.exported.astray_nodes == 1


def test_a_module_with_its_children_has_the_sums_of_all() -> None:
    sums = SMALL.with_children()
    assert sums[""] == Module(class_name="Model", parameters=10, nodes=8, shipped_nodes=3)
    assert sums["layers.1"] == Module(class_name="Linear", parameters=4, nodes=4, shipped_nodes=1)


def test_a_module_whose_container_is_not_known_is_in_the_nearest_that_is() -> None:
    paths = ("", "encoder", "encoder.layer.0", "encoder.layer.0.attention", "head.dense")
    hierarchy = Hierarchy(strategy="file", exported=Coverage(), modules=dict.fromkeys(paths, Module(nodes=1)))
    assert hierarchy.parents() == {
        "encoder": "",
        "encoder.layer.0": "encoder",
        "encoder.layer.0.attention": "encoder.layer.0",
        "head.dense": "",
    }
    assert hierarchy.depths()["encoder.layer.0.attention"] == 3
    assert hierarchy.with_children()[""].nodes == 5


def test_reports_that_know_less_are_read() -> None:
    facts = {"nodes": 9, "tagged_nodes": 3, "tagged_share": 0.3, "modules": {"encoder.layer": 3}, "shipped_nodes": 4}
    hierarchy = Hierarchy.of_facts(facts)
    assert hierarchy.strategy == "unknown"
    assert hierarchy.tagged_by_exporter
    assert list(hierarchy.modules) == ["", "encoder.layer"]
    assert hierarchy.shipped is None
    assert Hierarchy.of_facts({}).modules == {}
    assert not Hierarchy.of_facts({"nodes": 9, "tagged_nodes": 0, "modules": {}}).tagged_by_exporter


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": "many"}, {"nodes": -1}, {"nodes": True}, {"tags": ["exporter"]}, {"modules": ["encoder"]},
        {"modules": {"encoder": 1.5}}, {"classes": None}, {"parameters": {"encoder": None}}, {"shipped_nodes": None},
        {"tags": {"exporter": "7"}},
    ],
)  # fmt: skip
def test_facts_that_are_damaged_are_one_error(change: dict[str, Any]) -> None:
    with pytest.raises(PackageError, match=r"module hierarchy is damaged: .*build the package again"):
        Hierarchy.of_facts(SMALL.facts() | change)


def test_the_summary_tells_of_the_graph_that_ships() -> None:
    told = summary({"model": SMALL})
    assert told["format"] == 1
    model = told["graphs"]["model"]
    assert model["strategy"] == "dynamo"
    assert model["coverage"] == {"nodes": 4, "tagged_nodes": 3, "share": 0.75}
    assert model["module_types"]["Linear"] == 2
    assert model["tree"]["layers.0"] == {"class": "Linear", "nodes": 1, "parameters": 6}
