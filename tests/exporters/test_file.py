"""A graph that somebody else exported: what is made of it, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from processes import builds, run, stages_started
from tiny_models import WEIGHTS_FILE

from modelbuild.component import Component, Named
from modelbuild.config.compose import compose
from modelbuild.digest import sha256_file
from modelbuild.errors import ExportError
from modelbuild.exporter_spec import FileExporter
from modelbuild.exporters import file
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.graph_source import OwnGraph, locate_graph, verify_graph
from modelbuild.resolve import resolve
from modelbuild.runtime.session import SessionSettings, open_session
from modelbuild.signature import TensorSpec
from modelbuild.spec import Opset
from modelbuild.stage_slices import stage_specs
from modelbuild.stage_spec import ExportSpec, GraphFiles
from modelbuild.stages import export
from modelbuild.tasks import TASKS, TEXT_INPUTS
from modelbuild.text_limits import Limits, text_interface

Inputs = dict[str, np.ndarray[Any, np.dtype[Any]]]
TASK = TASKS["feature-extraction"]
# The exporter asks a component for its interface, and which modules there are: what it computes is in the file.
COMPONENT = Component(
    name="model",
    file=MODEL_FILE,
    module=Named(torch.nn.Module()),
    interface=text_interface(TASK, TEXT_INPUTS, Limits(vocab_size=8, type_vocab_size=2, max_positions=16)),
)
NAMES = ("input_ids", "attention_mask")
MAPPED = {"input_ids": "ids", "attention_mask": "mask"}
HIDDEN = {"last_hidden_state": "hidden"}
TRACE = "pkg.torch.onnx.stack_trace"


def arrays(batch: int = 2, sequence: int = 3) -> Inputs:
    rng = np.random.default_rng(0)
    shape = (batch, sequence)
    return {"input_ids": rng.integers(0, 16, shape), "attention_mask": np.ones(shape, dtype=np.int64)}


def theirs(opset: int = 17, ir_version: int = 8, axes: tuple[Any, Any] = ("N", "L"), domain: str = "") -> Any:
    """Token embeddings times the mask, with other names and another order than ours, and a second output."""
    table = np.random.default_rng(1).standard_normal((16, 8)).astype(np.float32)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("mask", "ids")]
    outputs = [
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [axes[0], 8]),
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [*axes, 8]),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], domain=domain),
        helper.make_node("Cast", ["mask"], ["factor"], to=TensorProto.FLOAT, doc_string="/home/colleague/model.py"),
        helper.make_node("Constant", [], ["last"], value=numpy_helper.from_array(np.array([2]), "last")),
        helper.make_node("Unsqueeze", ["factor", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["hidden"], name="mul"),
        helper.make_node("Mul", ["hidden", "scale"], ["scaled"]),
        helper.make_node("Gather", ["scaled", "first"], ["pooled"], axis=1),
    ]
    nodes[0].metadata_props.add(key=TRACE, value="/home/colleague/model.py")
    weights = [("table", table), ("scale", np.ones(8, dtype=np.float32)), ("first", np.array(0))]
    inner = [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [*axes, 8])]
    graph = helper.make_graph(
        nodes, "theirs", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in weights], value_info=inner
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)], ir_version=ir_version)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Their file, with weights inside."""
    (tmp_path / "theirs").mkdir()
    onnx.save(theirs(), tmp_path / "theirs" / "graph.onnx")
    return tmp_path / "theirs" / "graph.onnx"


def located(path: Path, opset: Any = "auto", **names: dict[str, str]) -> GraphFiles:
    spec = FileExporter(kind="file", path=str(path), **names)
    return locate_graph(spec, Opset(version=opset), sha256_file)


def exported(path: Path, **names: dict[str, str]) -> Path:
    """The folder that the exporter wrote."""
    own = OwnGraph(path=path, files=located(path, **({"inputs": MAPPED, "outputs": HIDDEN} | names)))
    out = path.parent.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    file.export(COMPONENT, TASK, cast(Any, None), read_graph(path).opsets[""], own, out / MODEL_FILE)
    return out


def outputs_of(model: Path, inputs: Inputs, name: str) -> Any:
    session = open_session(model, providers=[("cpu", {})], settings=SessionSettings())
    return session.run([name], inputs)[0]


def line(error: pytest.ExceptionInfo[ExportError]) -> str:
    (found,) = error.value.lines()
    assert error.value.exit_code == 3
    assert "\n" not in found
    return found


def refused(path: Path, **names: dict[str, str]) -> str:
    with pytest.raises(ExportError) as caught:
        exported(path, **names)
    return line(caught)


def not_found(path: Path, opset: Any = "auto") -> str:
    with pytest.raises(ExportError) as caught:
        located(path, opset)
    return line(caught)


def external(path: Path, **how: Any) -> list[Path]:
    """Their file again, its weights outside; the files that hold them."""
    path.unlink()
    onnx.save(theirs(), path, save_as_external_data=True, size_threshold=0, **how)
    return sorted(file for file in path.parent.iterdir() if file.is_file() and file != path)


def changed(path: Path, change: Any) -> None:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def test_names_order_and_axes_become_the_tasks_and_the_numbers_stay(path: Path) -> None:
    out = exported(path)
    graph = read_graph(out / MODEL_FILE)
    assert graph.signature.inputs == tuple(
        TensorSpec(name=name, dtype="int64", shape=("batch", "sequence")) for name in NAMES
    )
    assert graph.signature.outputs == (
        TensorSpec(name="last_hidden_state", dtype="float32", shape=("batch", "sequence", 8)),
    )
    given = arrays()
    before = outputs_of(path, {MAPPED[name]: array for name, array in given.items()}, "hidden")
    assert np.array_equal(outputs_of(out / MODEL_FILE, given, "last_hidden_state"), before)


def test_nodes_that_only_a_dropped_output_needed_are_dropped_and_no_other_is_touched(path: Path) -> None:
    before, after = onnx.load(path), onnx.load(exported(path) / MODEL_FILE)
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node][:5]
    assert [tensor.name for tensor in after.graph.initializer] == ["table"]
    assert (after.opset_import, after.ir_version) == (before.opset_import, before.ir_version)
    weight = numpy_helper.to_array(before.graph.initializer[0])
    assert np.array_equal(numpy_helper.to_array(after.graph.initializer[0]), weight)


def test_inner_values_speak_of_the_same_axes(path: Path) -> None:
    (inner,) = (v for v in onnx.load(exported(path) / MODEL_FILE).graph.value_info if v.name == "rows")
    assert [axis.dim_param for axis in inner.type.tensor_type.shape.dim][:2] == ["batch", "sequence"]


def test_inner_axes_that_have_the_tasks_names_already_are_not_taken_for_the_same(path: Path) -> None:
    def rename(model: Any) -> None:
        model.graph.value_info[0].type.tensor_type.shape.dim[2].dim_param = "batch"

    changed(path, rename)
    model = onnx.load(exported(path) / MODEL_FILE)
    (inner,) = (value for value in model.graph.value_info if value.name == "rows")
    assert [axis.dim_param for axis in inner.type.tensor_type.shape.dim] == ["batch", "sequence", ""]


def test_paths_of_the_machine_that_exported_it_do_not_come_along(path: Path) -> None:
    assert b"colleague" in path.read_bytes()
    assert not any(b"colleague" in file.read_bytes() for file in exported(path).iterdir())


def in_function(path: Path) -> None:
    """Their file, with the first node as a function of its own whose table is kept outside, and its lines known."""
    model = onnx.load(path)
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    (path.parent / "rows.bin").write_bytes(numpy_helper.to_array(table).tobytes())
    weight = numpy_helper.from_array(numpy_helper.to_array(table), "rows")
    set_external_data(weight, "rows.bin", length=len(table.raw_data))
    weight.ClearField("raw_data")
    body = [
        helper.make_node("Constant", [], ["table"], value=weight, doc_string="/home/colleague/model.py"),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
    ]
    body[1].metadata_props.add(key=TRACE, value="/home/colleague/model.py")
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("theirs", "Look", ["ids"], ["rows"], body, opsets)
    function.doc_string = "/home/colleague/model.py"
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("theirs", 1))
    model.graph.node[0].CopyFrom(helper.make_node("Look", ["ids"], ["rows"], domain="theirs"))
    model.graph.node[1].doc_string = ""
    model.graph.initializer.remove(table)
    path.write_bytes(model.SerializeToString())


def test_functions_of_the_file_keep_no_paths_either_and_bring_their_weights(path: Path) -> None:
    expected = outputs_of(exported(path) / MODEL_FILE, arrays(), "last_hidden_state")
    in_function(path)
    assert list(located(path).data) == ["rows.bin"]
    assert b"colleague" in path.read_bytes()
    out = exported(path)
    assert not any(b"colleague" in file.read_bytes() for file in out.iterdir())
    for gone in (path.parent / "rows.bin", path):
        gone.unlink()
    np.testing.assert_array_equal(outputs_of(out / MODEL_FILE, arrays(), "last_hidden_state"), expected)


@pytest.mark.parametrize("one_file", [True, False])
def test_weights_come_from_any_number_of_files_with_any_name_and_go_into_one(path: Path, one_file: bool) -> None:
    inline = onnx.load(exported(path) / MODEL_FILE)
    data = external(path, all_tensors_to_one_file=one_file, location="my weights.bin" if one_file else None)
    assert [file.name for file in data] == (["my weights.bin"] if one_file else ["first", "scale", "table"])
    assert set(located(path).data) == {file.name for file in data}
    out = exported(path)
    assert sorted(file.name for file in out.iterdir()) == [MODEL_FILE, WEIGHTS_FILE]
    assert onnx.load(out / MODEL_FILE).graph == inline.graph


def test_weights_in_attributes_that_are_kept_outside_come_along(path: Path) -> None:
    data = external(path, all_tensors_to_one_file=True, location="w", convert_attribute=True)
    assert [file.name for file in data] == ["w"]
    out = exported(path)
    for gone in (*data, path):
        gone.unlink()
    assert outputs_of(out / MODEL_FILE, arrays(), "last_hidden_state").shape == (2, 3, 8)


def test_what_the_mapping_leaves_out_has_the_tasks_name(path: Path) -> None:
    def rename(model: Any) -> None:
        model.graph.input[1].name = model.graph.node[0].input[1] = "input_ids"

    changed(path, rename)
    assert read_graph(exported(path, inputs={"attention_mask": "mask"}) / MODEL_FILE).signature.input_names() == NAMES


def test_an_inner_value_that_has_a_name_of_the_task_makes_way(path: Path) -> None:
    def rename(model: Any) -> None:
        model.graph.node[0].output[0] = model.graph.node[4].input[0] = "last_hidden_state"
        model.graph.node[1].output[0] = model.graph.node[3].input[0] = "attention_mask"

    expected = outputs_of(exported(path) / MODEL_FILE, arrays(), "last_hidden_state")
    changed(path, rename)
    assert np.array_equal(outputs_of(exported(path) / MODEL_FILE, arrays(), "last_hidden_state"), expected)


@pytest.mark.parametrize(
    ("axes", "shapes"),
    [
        ((None, None), ("batch", "sequence")),
        (("sequence", "batch"), ("batch", "sequence")),
        ((1, "L"), (1, "sequence")),
        ((1, 128), (1, 128)),
        (("N", "N"), ("N", "N")),
    ],
)
def test_axes_are_named_by_place_where_that_is_possible_and_fixed_ones_stay(
    axes: tuple[Any, Any], shapes: tuple[Any, Any], path: Path
) -> None:
    onnx.save(theirs(axes=axes), path)
    signature = read_graph(exported(path) / MODEL_FILE).signature
    assert [tensor.shape[:2] for tensor in (*signature.inputs, *signature.outputs)] == [shapes] * 3


def test_an_axis_is_not_given_a_name_that_another_axis_has(path: Path) -> None:
    def rename(model: Any) -> None:
        model.graph.output[1].type.tensor_type.shape.dim[2].dim_param = "batch"

    changed(path, rename)
    assert read_graph(exported(path) / MODEL_FILE).signature.outputs[0].shape == ("N", "sequence", "batch")


def test_the_default_domain_may_be_spelled_out(path: Path) -> None:
    onnx.save(theirs(domain="ai.onnx"), path)
    assert read_graph(exported(path) / MODEL_FILE).opsets == {"": 17}


def test_weights_that_are_inputs_too_stay_what_they_are(path: Path) -> None:
    def add(model: Any) -> None:
        model.graph.input.insert(0, helper.make_tensor_value_info("table", TensorProto.FLOAT, [16, 8]))

    changed(path, add)
    out = exported(path)
    assert read_graph(out / MODEL_FILE).signature.input_names() == NAMES
    assert onnx.load(out / MODEL_FILE).graph.input[2].name == "table"


def test_a_file_is_known_by_its_content_and_not_by_its_name(path: Path, tmp_path: Path) -> None:
    data = external(path, all_tensors_to_one_file=True, location="weights")
    before = located(path)
    assert before.graph == hashlib.sha256(path.read_bytes()).hexdigest()
    shutil.copytree(path.parent, tmp_path / "elsewhere")
    moved = (tmp_path / "elsewhere" / path.name).rename(tmp_path / "elsewhere" / "other.onnx")
    assert located(moved) == before
    data[0].write_bytes(b"\x00" * data[0].stat().st_size)
    assert located(path).data != before.data
    assert located(path).graph == before.graph


def test_a_file_that_changes_while_it_is_built_is_noticed(path: Path) -> None:
    own = OwnGraph(path=path, files=located(path))
    verify_graph(own)
    onnx.save(theirs(opset=18), path)
    with pytest.raises(ExportError, match=r"graph\.onnx changed while it was being built"):
        verify_graph(own)


def test_a_link_to_the_graph_is_followed_and_its_data_is_looked_for_beside_the_link(path: Path) -> None:
    link = path.parent / "snapshot" / "model.onnx"
    link.parent.mkdir()
    link.symlink_to(path)
    assert located(link) == located(path)
    data = external(path, all_tensors_to_one_file=True, location="weights")
    assert "its weights are in 'weights', which is missing" in not_found(link)
    (link.parent / "weights").symlink_to(data[0])
    assert f"a link, where a file with weights is wanted: {link.parent}/weights: copy graph" in not_found(link)


def test_the_opset_is_what_it_is_and_another_one_that_is_asked_for_is_refused(path: Path) -> None:
    assert located(path, 17) == located(path, "auto")
    assert not_found(path, 18) == (
        f"error[EXP]: the file has opset 17, and opset=18 was asked for: {path}: "
        "take it as it is with opset=auto, or export it anew"
    )


def test_a_file_that_is_not_there_is_named_with_one_that_is(path: Path) -> None:
    near = path.with_name("grph.onnx")
    assert not_found(near) == f"error[EXP]: no such file: {near}: did you mean '{path}'?"
    nowhere = path.parent / "no" / "graph.onnx"
    assert not_found(nowhere) == f"error[EXP]: no such file: {nowhere}: check exporter.path"


def test_a_folder_is_refused_with_the_file_in_it(path: Path, tmp_path: Path) -> None:
    folder = path.parent
    assert not_found(folder) == (
        f"error[EXP]: a folder, where an ONNX file is wanted: {folder}: did you mean '{path}'?"
    )
    assert not_found(tmp_path).endswith("give the .onnx file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an ONNX file"),
        (b"hello, this is no graph", "not an ONNX file"),
        (b'{"model_type": "bert"}', "not an ONNX file"),
        (b"PK\x03\x04archive/data.pkl", "an archive, as PyTorch writes it, not an ONNX file"),
        (b"\x80\x02}q\x00.", "a pickle, as PyTorch writes it, not an ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, not an ONNX file"),
    ],
)
def test_what_is_not_an_onnx_file_is_refused_by_what_it_is(content: bytes, words: str, path: Path) -> None:
    path.write_bytes(content)
    assert not_found(path).startswith(f"error[EXP]: {words}")
    assert str(path) in not_found(path)


def test_half_a_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])
    found = not_found(path)
    assert found.startswith("error[EXP]: not an ONNX file: ")
    assert found.endswith(f"{path}: it may be cut short; fetch or export it again")


def test_a_data_file_that_is_missing_or_cut_short_is_named(path: Path) -> None:
    (data,) = external(path, all_tensors_to_one_file=True, location="weights")
    data.write_bytes(data.read_bytes()[:-1])
    size = data.stat().st_size
    assert not_found(path) == (
        f"error[EXP]: {size} bytes, and the graph needs {size + 1}: {data}: it was cut short; fetch or export it again"
    )
    data.unlink()
    assert not_found(path) == (
        f"error[EXP]: its weights are in 'weights', which is missing: {path}: put the file beside the graph"
    )


@pytest.mark.parametrize("location", ["../weights", "/etc/hostname", "a/../../weights"])
def test_a_data_file_outside_the_folder_is_refused(location: str, path: Path, tmp_path: Path) -> None:
    (data,) = external(path, all_tensors_to_one_file=True, location="weights")
    shutil.copyfile(data, tmp_path / "weights")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    assert not_found(path) == (
        f"error[EXP]: its weights are said to be in '{location}', which is outside its folder: {path}: refused"
    )


def test_a_data_file_with_a_second_name_is_refused_with_what_to_do(path: Path, tmp_path: Path) -> None:
    (data,) = external(path, all_tensors_to_one_file=True, location="weights")
    os.link(data, tmp_path / "second")
    assert not_found(path).endswith(f"{data}: copy graph and weights to another folder, with 'cp -L'")


def test_a_tensor_that_does_not_say_where_its_data_is_is_refused(path: Path) -> None:
    external(path, all_tensors_to_one_file=True, location="weights")
    model = onnx.load(path, load_external_data=False)
    del model.graph.initializer[0].external_data[:]
    path.write_bytes(model.SerializeToString())
    assert "it does not say where the data of table is" in not_found(path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"inputs": {}}, "the graph has no input 'input_ids': {path}: choose one of ids, mask (say so with exporter"),
        ({"inputs": {"input_ids": "idz", "attention_mask": "mask"}}, "has no input 'idz': {path}: did you mean 'ids'?"),
        (
            {"inputs": MAPPED | {"input_idz": "ids2"}},
            "the model has no input 'input_idz': exporter.inputs: did you mea",
        ),
        ({"inputs": {"input_ids": "ids"}}, "no input 'attention_mask': {path}: choose one of mask (say so with exp"),
        ({"outputs": {}}, "the graph has no output 'last_hidden_state': {path}: choose one of hidden, pooled (say so"),
        ({"outputs": {"last_hidden_state": "hiden"}}, "no output 'hiden': {path}: did you mean 'hidden'?"),
        (
            {"outputs": HIDDEN | {"logits": "pooled"}},
            "the model has no output 'logits': exporter.outputs: choose one o",
        ),
    ],
    ids=str,
)
def test_a_name_that_is_not_there_is_refused_with_one_that_is(
    names: dict[str, dict[str, str]], words: str, path: Path
) -> None:
    assert words.replace("{path}", str(path)) in refused(path, **names)


def test_two_names_for_one_input_are_refused(path: Path) -> None:
    def rename(model: Any) -> None:
        model.graph.input[0].name = model.graph.node[1].input[0] = "attention_mask"

    changed(path, rename)
    found = refused(path, inputs={"input_ids": "attention_mask"})
    assert "input_ids and attention_mask cannot both be 'attention_mask': exporter.inputs: say what" in found


def test_an_input_that_the_model_does_not_take_is_refused(path: Path) -> None:
    def add(model: Any) -> None:
        model.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["N", "L"]))

    changed(path, add)
    assert "the graph also takes 'position_ids', which the model does not" in refused(path)


def test_inputs_of_another_type_are_refused(path: Path) -> None:
    def change(model: Any) -> None:
        model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT32

    changed(path, change)
    assert refused(path) == (
        f"error[EXP]: input_ids is int32 in the graph, not int64: {path}: export it with int64 inputs"
    )


@pytest.mark.parametrize(
    ("opset", "ir_version", "words"),
    [(99, 10, "the file has opset 99, and onnxruntime"), (17, 99, "the file has IR version 99, and onnxruntime")],
)
def test_what_the_installed_onnxruntime_is_too_old_for_is_refused_with_what_it_takes(
    opset: int, ir_version: int, words: str, path: Path
) -> None:
    onnx.save(theirs(opset, ir_version), path)
    found = refused(path)
    assert found.startswith(f"error[EXP]: {words}")
    assert f"at most: {path}: upgrade onnxruntime, or export it anew at an older" in found


def test_an_operator_that_nobody_knows_is_refused_before_it_is_called_an_optimization(path: Path) -> None:
    changed(path, lambda model: setattr(model.graph.node[4], "op_type", "NoSuchOperator"))
    found = refused(path)
    assert found.startswith("error[EXP]: ONNX Runtime cannot open the model: ")
    assert "NoSuchOperator" in found


@pytest.mark.parametrize("opset", [7, 13, 23])
def test_any_opset_that_onnxruntime_takes_is_taken_as_it_is(opset: int, path: Path) -> None:
    model = theirs(opset)
    if opset == 7:
        model.graph.node[3].CopyFrom(helper.make_node("Unsqueeze", ["factor"], ["column"], axes=[2]))
    onnx.save(model, path)
    assert read_graph(exported(path) / MODEL_FILE).opsets == {"": opset}


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT as a colleague would export it: by torch, with names, axes, order and files of their own. A folder,
    not to be changed; `own` is a copy.
    """
    folder = tmp_path_factory.mktemp("colleague")
    build = resolve(compose(["model=bert-tiny", "opset=18"], folder).spec, sha256_file)
    spec = stage_specs(build, {})["export"]
    assert isinstance(spec, ExportSpec)
    (folder / "ours").mkdir()
    export.run(spec, {}, folder / "ours")
    model = onnx.load(folder / "ours" / MODEL_FILE)
    names = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "segments", "last_hidden_state": "hidden"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
        for axis in value.type.tensor_type.shape.dim:
            if axis.HasField("dim_param"):
                axis.dim_param = {"batch": "N", "sequence": "L"}[axis.dim_param]
    inputs = list(model.graph.input)
    del model.graph.input[:]
    model.graph.input.extend(reversed(inputs))
    (folder / "own").mkdir()
    theirs = folder / "own" / "their model.onnx"
    onnx.save(model, theirs, save_as_external_data=True, all_tensors_to_one_file=True, location="their weights")
    return theirs.parent


@pytest.fixture
def own(tiny_bert: Path, tmp_path: Path) -> Path:
    """Its file, in the folder `own` of a workspace."""
    shutil.copytree(tiny_bert, tmp_path / "own")
    return tmp_path / "own" / "their model.onnx"


OWN = (
    "model=bert-tiny", "exporter=file", "exporter.inputs.input_ids=ids", "exporter.inputs.attention_mask=mask",
    "exporter.inputs.token_type_ids=segments", "exporter.outputs.last_hidden_state=hidden", "validation=quick",
    "benchmark=off",
)  # fmt: skip


@pytest.mark.slow
def test_a_colleagues_graph_becomes_a_verified_package_and_a_moved_one_is_not_built_again(
    own: Path, tmp_path: Path
) -> None:
    finished = run(*OWN, "exporter.path='own/their model.onnx'", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    (build,) = builds(tmp_path)
    assert build.name.startswith("bert-tiny-feature-extraction-own-opset-cpu-fp32-")
    manifest = json.loads((build / "package" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["verified"]
    assert manifest["graphs"]["model"]["opsets"] == {"": 18}
    assert manifest["source"]["graph"] == sha256_file(own)
    assert manifest["build"]["exporter"]["path"] == own.name
    assert [tensor["name"] for tensor in manifest["graphs"]["model"]["signature"]["inputs"]] == [
        *NAMES,
        "token_type_ids",
    ]
    kept = [file for file in (build / "package").rglob("*") if file.is_file()]
    assert not any(str(tmp_path).encode() in file.read_bytes() for file in (*kept, build / "params.yaml"))
    (tmp_path / "own").rename(tmp_path / "moved")
    again = run(*OWN, "exporter.path='moved/their model.onnx'", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert set(stages_started(tmp_path).values()) == {1}


@pytest.mark.slow
def test_a_graph_with_one_wrong_weight_is_not_packaged(own: Path, tmp_path: Path) -> None:
    data = own.parent / "their weights"
    values = np.fromfile(data, dtype=np.float32)
    values[: 32 * 8 : 2] += 0.05
    values.tofile(data)
    finished = run(*OWN, "exporter.path='own/their model.onnx'", cwd=tmp_path)
    assert finished.returncode == 5, finished.stderr
    assert "error[VAL]: validation failed: " in finished.stderr
    assert "no optimization brings it in: the exported graph has it already" in finished.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("validation", ["quick", "off"])
def test_a_graph_with_fixed_axes_is_refused_by_validation_and_passes_without(
    validation: str, own: Path, tmp_path: Path
) -> None:
    model = onnx.load(own)
    for value in (*model.graph.input, *model.graph.output):
        for axis, size in zip(value.type.tensor_type.shape.dim, (2, 8), strict=False):
            axis.dim_value = size
    onnx.save(model, own)
    words = [word for word in OWN if not word.startswith("validation")]
    finished = run(*words, f"validation={validation}", "exporter.path='own/their model.onnx'", cwd=tmp_path)
    assert finished.returncode == (5 if validation == "quick" else 0), finished.stderr
    if validation == "quick":
        assert "validation failed: symbolic axes at input_ids (2, 8), " in finished.stderr.splitlines()[-1]
