"""The budget: one fused attention per layer."""

from __future__ import annotations

import pytest

from modelbuild.fusions.budget import attention_budget, fused_operators

_ATTENTION = "com.microsoft.Attention"


@pytest.mark.parametrize(
    ("operators", "layers", "kept", "line"),
    [
        ({_ATTENTION: 6, "MatMul": 18}, 6, True, "6 of 6 layers (com.microsoft.Attention x 6)"),
        ({_ATTENTION: 5}, 6, False, "5 of 6 layers (com.microsoft.Attention x 5)"),
        ({"MatMul": 18, "Softmax": 6}, 6, False, "0 of 6 layers"),
        ({"Attention": 1, "com.microsoft.MultiHeadAttention": 1}, 2, True, "2 of 2 layers (Attention x 1, com."),
        ({_ATTENTION: 1}, None, True, "1 layers, of unknown number"),
        ({}, None, False, "0 layers, of unknown number"),
    ],
)
def test_a_budget_is_kept_when_every_layer_has_an_attention(
    operators: dict[str, int], layers: int | None, kept: bool, line: str
) -> None:
    budget = attention_budget(operators, {"num_hidden_layers": layers})
    assert budget.kept is kept
    assert budget.line().startswith(line)
    check = budget.check()
    assert (check.name, check.passed, check.worst) == ("fusions", kept, sum(budget.operators.values()))


def test_fused_operators_are_those_that_stand_for_several() -> None:
    operators = {"MatMul": 6, "LayerNormalization": 1, "com.microsoft.BiasGelu": 6, "Cast": 3}
    assert fused_operators(operators) == {"LayerNormalization": 1, "com.microsoft.BiasGelu": 6}
