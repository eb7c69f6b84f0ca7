"""Tags: what a node of an ONNX file says of the PyTorch module that it came from. Weights are not loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from modelbuild.errors import PackageError

# torch's own keys, and torch's own way to write a list.
SCOPES_KEY = "pkg.torch.onnx.name_scopes"
CLASSES_KEY = "pkg.torch.onnx.class_hierarchy"
# Ours: how a tag is known that the exporter did not write.
SOURCE_KEY = "pkg.modelbuild.tag_source"
EXPORTER, SCOPE, VALUE, NAME, INFERRED = "exporter", "scope", "value", "name", "inferred"

_PLACEHOLDER = "_empty_nn_module_stack"
_CALL_NUMBER = re.compile(r"@\d+$")
# A tag is a path, and no program: what is longer is not read.
_LONGEST = 1 << 16
_TEXT = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""")
_LIST = re.compile(rf"\[(?:(?:{_TEXT.pattern})(?:, ?(?:{_TEXT.pattern}))*)?\]")
_ESCAPED = re.compile(r"\\(['\"\\])")


@dataclass(frozen=True, kw_only=True)
class Tag:
    """The paths of the modules around a node, outermost first (`""` is the model itself), and the class of each.

    `classes` is empty where they are not known. `source` is how the tag is known: `exporter` wrote it; the `scope` in
    the node's name says it; a node of the exported graph made the same `value` or had the same `name`; it is `inferred`
    from the nodes around.
    """

    scopes: tuple[str, ...]
    classes: tuple[str, ...] = ()
    source: str = EXPORTER

    @property
    def module(self) -> str:
        """The path of the innermost module."""
        return self.scopes[-1]

    @property
    def class_name(self) -> str:
        """The innermost module's class without its package, or nothing where that is not known."""
        return self.classes[-1].rpartition(".")[2] if self.classes else ""


def read_tag(node: onnx.NodeProto) -> Tag | None:
    """The tag of a node, or None where it has none, or one that cannot be read.

    Torch writes two lists whose last entry is the operator, puts a placeholder where it saw no module, which is the
    model itself then, and numbers the calls of a module that is called again.
    """
    values = {entry.key: entry.value for entry in node.metadata_props}
    scopes = read_names(values.get(SCOPES_KEY, ""))
    if not scopes:
        return None
    classes = read_names(values.get(CLASSES_KEY, ""))
    source = values.get(SOURCE_KEY, EXPORTER)
    paths = tuple(_CALL_NUMBER.sub("", path) for path in scopes[:-1])
    if not paths or paths[-1].startswith(_PLACEHOLDER):
        return Tag(scopes=("",), source=source)
    return Tag(scopes=paths, classes=classes[:-1] if len(classes) == len(scopes) else (), source=source)


def write_tag(node: onnx.NodeProto, tag: Tag) -> None:
    """Write `tag` on a node as torch would, in the place of what is there. A tag of the exporter needs no source."""
    values = {SCOPES_KEY: (*tag.scopes, node.name or node.op_type)}
    if tag.classes:
        values[CLASSES_KEY] = (*tag.classes, node.op_type)
    written = {key: str(list(names)) for key, names in values.items()}
    written |= {SOURCE_KEY: tag.source} if tag.source != EXPORTER else {}
    kept = [entry for entry in node.metadata_props if entry.key not in (SCOPES_KEY, CLASSES_KEY, SOURCE_KEY)]
    pairs = {entry.key: entry.value for entry in kept} | written
    del node.metadata_props[:]
    for key, value in pairs.items():
        node.metadata_props.add(key=key, value=value)


def read_names(text: str) -> tuple[str, ...]:
    """The names in a list of texts as Python writes one; nothing where it is something else.

    Not by Python's own parser, which fails now and then where two threads use it (SystemError, CPython 3.11).
    """
    if len(text) > _LONGEST or not _LIST.fullmatch(text):
        return ()
    return tuple(_ESCAPED.sub(r"\1", name[1:-1]) for name in _TEXT.findall(text))


def load_graph(model: Path) -> onnx.ModelProto:
    """The ONNX file `model` without its weights. Raises PackageError when it cannot be parsed."""
    try:
        proto = onnx.load(model, load_external_data=False)
    except Exception as error:
        raise PackageError(f"not an ONNX file: {error}", where=str(model)) from error
    if not proto.opset_import:  # protobuf reads an empty file as an empty model
        raise PackageError("not an ONNX file: it names no opset", where=str(model))
    return proto


def bodies(root: Any) -> Iterator[Any]:
    """`root`, which is a graph or a function, and every subgraph inside it."""
    waiting = [root]
    while waiting:
        body = waiting.pop(0)
        yield body
        for attribute in (attribute for node in body.node for attribute in node.attribute):
            waiting += [attribute.g] if attribute.HasField("g") else attribute.graphs


def all_bodies(proto: onnx.ModelProto) -> Iterator[Any]:
    """The graph, the functions, and every subgraph inside them."""
    return (body for root in (proto.graph, *proto.functions) for body in bodies(root))


def all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graph, of functions and of subgraphs."""
    return (node for body in all_bodies(proto) for node in body.node)
