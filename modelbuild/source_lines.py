"""Where the code stood that a graph was made from: paths of a machine, which no file that ships says."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

_STACK_TRACE = "pkg.torch.onnx.stack_trace"


def every_node(graph: ir.Model) -> Iterator[ir.Node]:
    """The nodes of the graph, of its functions, and of every subgraph inside them."""
    for root in (graph.graph, *graph.functions.values()):
        yield from ir.traversal.RecursiveGraphIterator(root)


def forget_source_lines(graph: ir.Model) -> None:
    """Drop the Python stack traces and doc strings of nodes, which both of torch's exporters may leave. They are paths
    of a machine, and change when nothing else does.
    """
    for node in every_node(graph):
        node.metadata_props.pop(_STACK_TRACE, None)
        node.doc_string = None
    for function in graph.functions.values():
        function.metadata_props.pop(_STACK_TRACE, None)
        function.doc_string = None
