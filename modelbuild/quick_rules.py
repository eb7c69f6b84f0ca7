"""onnxscript's rules, tried only where they can match."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import onnx_ir as ir
from onnxscript.rewriter import RewriteRule

_tried = RewriteRule.try_rewrite


@contextmanager
def only_where_they_match() -> Iterator[None]:
    """For as long as the context lasts, a rule looks at the operator of a node before anything else.

    A pattern is matched from its last node backwards, and onnxscript makes the whole state of a match for each node and
    rule before it looks, nearly always for nothing.
    """
    with patch.object(RewriteRule, "try_rewrite", _try_rewrite):
        yield


def _try_rewrite(rule: Any, model: ir.Model, graph: Any, node: ir.Node, **options: Any) -> Any:
    last = rule._target_pattern.output_nodes[0]  # noqa: SLF001 - a rule does not say what it looks for
    if not (last.op.matches(node.op_type) and last.domain.matches(node.domain)):
        return None
    return _tried(rule, model, graph, node, **options)
