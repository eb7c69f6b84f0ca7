"""A graph that somebody else exported may have operators that ONNX Runtime has not: which, is known before any work."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.exporter_spec import FileExporter
from modelbuild.graph_source import locate_graph
from modelbuild.runtime.custom_ops import known_operators
from modelbuild.spec import Opset
from modelbuild.stage_spec import GraphFiles


def theirs(path: Path, *operators: tuple[str, str], functions: tuple[tuple[str, str], ...] = ()) -> Path:
    """A chain of operators, each of a domain, of which some are functions of the file itself."""
    nodes = [
        helper.make_node(name, [f"x{at}"], [f"x{at + 1}"], domain=domain) for at, (domain, name) in enumerate(operators)
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x0", f"x{len(nodes)}")]
    imports = [helper.make_opsetid(domain, 1) for domain in sorted({domain for domain, _ in operators} - {""})]
    imports.append(helper.make_opsetid("", 17))
    body = [helper.make_node("Relu", ["a"], ["b"])]
    own = [
        helper.make_function(domain, name, ["a"], ["b"], body, [helper.make_opsetid("", 17)])
        for domain, name in functions
    ]
    graph = helper.make_graph(nodes, "theirs", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8, functions=own), path)
    return path


def located(path: Path, *, libraries: bool = False) -> GraphFiles:
    exporter = FileExporter(kind="file", path=str(path))
    return locate_graph(exporter, Opset(version="auto"), sha256_file, None if libraries else known_operators)


def refused(path: Path) -> str:
    with pytest.raises(ExportError) as caught:
        located(path)
    (line,) = caught.value.lines()
    return line


def test_an_operator_that_onnxruntime_has_not_is_named_with_its_domain_and_what_to_do(tmp_path: Path) -> None:
    path = theirs(tmp_path / "a.onnx", ("", "Relu"), ("my.ops", "Scale"))
    assert refused(path) == (
        f"error[EXP]: ONNX Runtime has no operator 'Scale' of the domain 'my.ops': {path}: name the library that has "
        "it: session.custom_ops=[…]"
    )


def test_of_several_operators_the_first_is_named_and_the_others_are_counted(tmp_path: Path) -> None:
    path = theirs(tmp_path / "a.onnx", ("my.ops", "Scale"), ("com.microsoft", "Other"), ("my.ops", "Scale"))
    assert "no operator 'Other' of the domain 'com.microsoft', and 1 more: " in refused(path)


def test_operators_of_onnxruntime_and_functions_of_the_file_itself_need_no_library(tmp_path: Path) -> None:
    operators = (("", "Relu"), ("com.microsoft", "QuickGelu"), ("ai.onnx.ml", "Normalizer"), ("their.own", "Rows"))
    path = theirs(tmp_path / "a.onnx", *operators, functions=(("their.own", "Rows"),))
    assert located(path).graph == sha256_file(path)


def test_what_is_in_a_library_is_left_to_the_session(tmp_path: Path) -> None:
    path = theirs(tmp_path / "a.onnx", ("my.ops", "Scale"))
    assert located(path, libraries=True).graph == sha256_file(path)
