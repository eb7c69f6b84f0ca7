from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from modelbuild.checks.module_config import _labels, _sizes

SHOWN = {"hidden_size": 16, "num_labels": 3}


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"hidden_size": 16}, []),
        ({"hidden_size": 99}, ["config.json hidden_size: 99, the module's is 16"]),
        ({}, ["config.json hidden_size: missing, the module's is 16"]),
    ],
)
def test_a_size_that_is_not_the_modules_is_a_fault(config: Mapping[str, Any], found: list[str]) -> None:
    assert list(_sizes(config, SHOWN)) == found


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"num_labels": 3, "id2label": {"0": "a", "1": "b", "2": "c"}}, []),
        ({"num_labels": 2}, ["config.json num_labels: 2, logits has 3 columns"]),
        ({}, ["config.json num_labels: missing, logits has 3 columns"]),
        (
            {"num_labels": 3, "id2label": {"0": "a"}},
            ['config.json id2label: {"0": "a"}, logits has 3 columns'],
        ),
    ],
)
def test_labels_that_are_not_the_columns_of_logits_are_a_fault(config: Mapping[str, Any], found: list[str]) -> None:
    assert list(_labels(config, 3)) == found
    assert not list(_labels(config, None))
