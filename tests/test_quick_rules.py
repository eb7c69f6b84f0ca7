"""Rules are tried where they can match, and do there what they do."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnxscript.rewriter import RewriteRule, RewriteRuleSet, rewrite
from onnxscript.rewriter.pattern import RewriteRuleSet as Rules

from modelbuild.quick_rules import only_where_they_match


def _graph() -> ir.Model:
    x = ir.val("x", ir.DataType.FLOAT, [2, 3])
    one = ir.Value(name="one", const_value=ir.tensor(np.float32(1)))
    nodes = [ir.node("Mul", [x, one])]
    for op in ("Relu", "Relu", "Neg", "Identity", "Abs"):
        nodes.append(ir.node(op, [nodes[-1].outputs[0]]))
    graph = ir.Graph([x], [nodes[-1].outputs[0]], nodes=nodes, initializers=[one], opset_imports={"": 18})
    return ir.Model(graph, ir_version=10)


def _operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_the_same_is_rewritten() -> None:
    plain, quick = _graph(), _graph()
    rewrite(plain)
    with only_where_they_match():
        rewrite(quick)
    assert _operators(quick) == _operators(plain)
    assert len(_operators(quick)) < len(_operators(_graph()))


def test_a_rule_looks_at_nodes_that_its_pattern_ends_in(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    match = RewriteRule.match

    def noted(rule: Any, model: Any, graph: Any, node: ir.Node, **options: Any) -> Any:
        looked_at.append(node.op_type)
        return match(rule, model, graph, node, **options)

    monkeypatch.setattr(RewriteRule, "match", noted)
    rule = RewriteRule(lambda op, x: op.Abs(op.Neg(x)), lambda op, x: op.Abs(x))
    with only_where_they_match():
        Rules([rule]).apply_to_model(_graph())
    assert looked_at == ["Abs"]


def test_a_pattern_of_any_operator_is_tried_everywhere() -> None:
    by_prefix = RewriteRule(lambda op, x: op.submodule("Rel")(x), lambda op, x: op.Abs(x))
    quick = _graph()
    with only_where_they_match():
        changed = RewriteRuleSet([by_prefix]).apply_to_model(quick)
    assert changed == 2
    assert "Relu" not in _operators(quick)


def test_the_rules_are_as_before_afterwards() -> None:
    before = RewriteRule.try_rewrite
    with pytest.raises(ZeroDivisionError), only_where_they_match():
        raise ZeroDivisionError
    assert RewriteRule.try_rewrite is before
