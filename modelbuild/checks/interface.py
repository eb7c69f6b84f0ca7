"""The graph's interface: names, order and types of inputs and outputs, the opset, and axes that are symbolic."""

from __future__ import annotations

from collections.abc import Iterator

from modelbuild.checks.subject import Subject
from modelbuild.graph import read_graph
from modelbuild.report import Check


def examine(subject: Subject) -> Iterator[Check]:
    """Signature, opset and symbolic axes of the file that ships."""
    yield _signature(subject)
    yield _opset(subject)
    yield _axes(subject)


def _signature(subject: Subject) -> Check:
    found, interface = subject.graph.signature, subject.interface
    wanted = [(value.name, value.dtype) for value in interface.inputs]
    given = [(value.name, value.dtype) for value in found.inputs]
    outputs = [(value.name, value.dtype) for value in interface.outputs]
    right = given == wanted and [(spec.name, spec.dtype) for spec in found.outputs] == outputs
    return Check(
        name="signature",
        passed=right,
        compared="names, order and dtypes of inputs and outputs",
        where=""
        if right
        else f"the graph {_told(given, [(s.name, s.dtype) for s in found.outputs])}; "
        f"expected: it {_told(wanted, outputs)}",
    )


def _told(inputs: list[tuple[str, str]], outputs: list[tuple[str, str]]) -> str:
    """`takes input_ids (int64), attention_mask (int64) and gives logits (float32)`."""
    taken, given = (", ".join(f"{name} ({dtype})" for name, dtype in values) for values in (inputs, outputs))
    return f"takes {taken or 'nothing'} and gives {given or 'nothing'}"


def _opset(subject: Subject) -> Check:
    """The opset is the one that was asked for; with `auto`, the one that the graph had before it was optimized."""
    opset, asked = subject.graph.opsets.get("", 0), subject.spec.opset.version
    expected = read_graph(subject.exported_file).opsets.get("", 0) if asked == "auto" else asked
    return Check(
        name="opset",
        passed=opset == expected,
        compared="the default domain's opset",
        where="" if opset == expected else f"graph: {opset}, {'exported' if asked == 'auto' else 'asked'}: {expected}",
    )


def _axes(subject: Subject) -> Check:
    """The axes that may change are symbolic, in inputs and outputs, and keep their own names; the others have sizes."""
    signature, interface = subject.graph.signature, subject.interface
    inputs = {value.name: value.shape for value in interface.inputs}
    wrong = [spec.name for spec in signature.inputs if spec.shape != inputs.get(spec.name)]
    outputs = {value.name: value for value in interface.outputs}
    for spec in (spec for spec in signature.outputs if spec.name in outputs):
        wanted = outputs[spec.name]
        if spec.shape[: len(wanted.shape)] != wanted.shape or spec.symbolic_axes() != wanted.symbolic_axes():
            wrong.append(spec.name)
    return Check(
        name="symbolic axes",
        passed=not wrong,
        compared=f"{len(signature.inputs) + len(signature.outputs)} shapes",
        where=", ".join(f"{s.name} {s.shape}" for s in (*signature.inputs, *signature.outputs) if s.name in wrong),
    )
