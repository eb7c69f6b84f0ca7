"""What Triton is told is what the graph says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from google.protobuf import text_format

from modelbuild.deployment.deploy import deploy
from modelbuild.deployment.options import Options
from modelbuild.errors import ConfigError, HostError, PackageError
from modelbuild.manifest import read_manifest, write_manifest
from modelbuild.package_files import record_files
from modelbuild.signature import Signature, TensorSpec

_TYPES = {onnx.TensorProto.INT64: "TYPE_INT64", onnx.TensorProto.FLOAT: "TYPE_FP32"}
Tensors = dict[str, tuple[str, list[int]]]


@cache
def protocol() -> Any:
    """Triton's own messages, without the client around them, which wants gRPC."""
    file = distribution("tritonclient").locate_file("tritonclient/grpc/model_config_pb2.py")
    spec = spec_from_file_location("model_config_pb2", str(file))
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(package: Path, out: Path, **options: Any) -> Any:
    """The ModelConfig that Triton reads."""
    deploy("triton", package, out, Options(**options))
    (path,) = out.glob("*/config.pbtxt")
    return text_format.Parse(path.read_text(), protocol().ModelConfig())


def tensors(messages: Any) -> Tensors:
    return {tensor.name: (protocol().DataType.Name(tensor.data_type), list(tensor.dims)) for tensor in messages}


def of_graph(values: Any, *, batched: bool) -> Tensors:
    """The same from the file itself."""
    found = {}
    for value in values:
        kept = value.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else -1 for size in kept.shape.dim]
        found[value.name] = (_TYPES[kept.elem_type], sizes[1:] if batched else sizes)
    return found


def change(package: Path, **changes: Any) -> None:
    write_manifest(replace(read_manifest(package), **changes), package)


@pytest.mark.parametrize("batch", [None, 16])
def test_the_config_is_that_of_the_graph(package: Path, tmp_path: Path, batch: int | None) -> None:
    found = config(package, tmp_path / "repository", max_batch_size=batch)
    graph = onnx.load(tmp_path / "repository" / "tiny" / "1" / "model.onnx").graph
    assert tensors(found.input) == of_graph(graph.input, batched=bool(batch))
    assert tensors(found.output) == of_graph(graph.output, batched=bool(batch))
    assert (found.name, found.backend, found.max_batch_size) == ("tiny", "onnxruntime", batch or 0)
    assert found.HasField("dynamic_batching") == bool(batch)
    assert found.default_model_filename == "model.onnx"
    session = ort.InferenceSession(tmp_path / "repository" / "tiny" / "1" / "model.onnx")
    for ours, theirs in ((found.input, session.get_inputs()), (found.output, session.get_outputs())):
        sizes = {value.name: [size if isinstance(size, int) else -1 for size in value.shape] for value in theirs}
        assert {tensor.name: [-1, *tensor.dims] if batch else list(tensor.dims) for tensor in ours} == sizes
    (group,) = found.instance_group
    assert (group.count, group.kind) == (1, group.KIND_CPU)
    assert found.parameters["intra_op_thread_count"].string_value == "1"


def test_the_weights_come_along(package: Path, tmp_path: Path) -> None:
    model = onnx.load(package / "model.onnx")
    onnx.save(model, package / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    change(package, files=record_files(package))
    files = deploy("triton", package, tmp_path / "repository", Options())
    assert list(map(str, files)) == ["tiny/1/model.onnx", "tiny/1/model.onnx.data", "tiny/config.pbtxt"]
    onnx.checker.check_model(str(tmp_path / "repository" / "tiny" / "1" / "model.onnx"))


def test_rows_are_put_together_along_the_axis_of_rows_alone_up_to_its_limit(package: Path, tmp_path: Path) -> None:
    graph = read_manifest(package).graphs["model"]
    change(package, graphs={"model": replace(graph, limits={"batch": 4, "sequence": 8})})
    assert config(package, tmp_path / "one").max_batch_size == 0
    assert config(package, tmp_path / "four", max_batch_size=4).max_batch_size == 4
    with pytest.raises(ConfigError, match="5, and model takes at most 4: --max-batch-size"):
        deploy("triton", package, tmp_path / "more", Options(max_batch_size=5))
    change(package, graphs={"model": graph})
    with pytest.raises(ConfigError, match="2147483648, and model takes at most 2147483647"):
        deploy("triton", package, tmp_path / "more", Options(max_batch_size=1 << 31))
    change(package, graphs={"model": replace(graph, batch="")})
    with pytest.raises(ConfigError, match="rows of model cannot be put together: input_ids does not begin with"):
        deploy("triton", package, tmp_path / "more", Options(max_batch_size=2))
    assert not (tmp_path / "more").exists()


def test_every_graph_is_a_model(package: Path, tmp_path: Path) -> None:
    shutil.copy(package / "model.onnx", package / "decoder.onnx")
    graph = read_manifest(package).graphs["model"]
    change(
        package, graphs={"encoder": graph, "decoder": replace(graph, file="decoder.onnx")}, files=record_files(package)
    )
    deploy("triton", package, tmp_path / "repository", Options())
    assert sorted(path.name for path in (tmp_path / "repository").iterdir()) == ["tiny_decoder", "tiny_encoder"]
    assert 'default_model_filename: "decoder.onnx"' in (tmp_path / "repository/tiny_decoder/config.pbtxt").read_text()


def test_a_number_alone_is_of_size_one(package: Path, tmp_path: Path) -> None:
    graph = read_manifest(package).graphs["model"]
    scalar = TensorSpec(name="scale", dtype="float32", shape=())
    signature = Signature(inputs=(*graph.signature.inputs, scalar), outputs=graph.signature.outputs)
    change(package, graphs={"model": replace(graph, signature=signature)})
    found = config(package, tmp_path / "repository")
    assert tensors(found.input)["scale"] == ("TYPE_FP32", [1])
    assert not [tensor for tensor in found.input if tensor.HasField("reshape")]  # Triton refuses an empty one here
    with pytest.raises(ConfigError, match="rows of model cannot be put together: scale does not begin"):
        deploy("triton", package, tmp_path / "batched", Options(max_batch_size=2))


def test_one_number_for_each_row_is_of_size_one(package: Path, tmp_path: Path) -> None:
    graph = read_manifest(package).graphs["model"]
    flags = TensorSpec(name="flags", dtype="bool", shape=("batch",))
    signature = Signature(inputs=(*graph.signature.inputs, flags), outputs=graph.signature.outputs)
    change(package, graphs={"model": replace(graph, signature=signature)})
    found = config(package, tmp_path / "repository", max_batch_size=2)
    (tensor,) = [tensor for tensor in found.input if tensor.name == "flags"]
    assert (list(tensor.dims), tensor.HasField("reshape"), list(tensor.reshape.shape)) == ([1], True, [])


def test_a_gpu_gets_the_options_that_the_package_was_proven_with(package: Path, tmp_path: Path) -> None:
    tensorrt = {"device_id": 1, "trt_fp16_enable": True, "trt_max_workspace_size": 1 << 30, "trt_int8_enable": False}
    cuda = {"device_id": 1, "use_tf32": False, "cudnn_conv_algo_search": "HEURISTIC", "gpu_mem_limit": 1 << 31}
    change(package, providers=(("tensorrt", tensorrt), ("cuda", cuda)))
    found = config(package, tmp_path / "repository")
    (group,) = found.instance_group
    assert (group.kind, list(group.gpus)) == (group.KIND_GPU, [1])
    told = found.optimization.execution_accelerators.gpu_execution_accelerator
    assert {each.name: dict(each.parameters) for each in told} == {
        "tensorrt": {"precision_mode": "FP16", "max_workspace_size_bytes": "1073741824"},
        "cuda": {"use_tf32": "0"},
    }
    assert found.parameters["cudnn_conv_algo_search"].string_value == "1"
    assert found.parameters["gpu_mem_limit"].string_value == "2147483648"


def test_what_the_backend_has_no_key_for_and_changes_no_numbers_is_a_comment(package: Path, tmp_path: Path) -> None:
    entries = {"session.force_spinning_stop": "1", "session.use_device_allocator_for_initializers": "1"}
    change(package, session={"allow_spinning": False, "intra_op_num_threads": 2, "config_entries": entries})
    found = config(package, tmp_path / "repository").parameters
    assert found["intra_op_thread_count"].string_value == "2"
    assert found["session.use_device_allocator_for_initializers"].string_value == "1"
    assert "session.force_spinning_stop" not in found
    text = (tmp_path / "repository" / "tiny" / "config.pbtxt").read_text()
    for setting in ("session.allow_spinning=false", "session.force_spinning_stop=1"):
        assert f"# The package was built with {setting}, for which the backend has no key.\n" in text
    assert text.count("#") == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"session": {"custom_ops": ["libmine.so"]}}, "Triton loads no libraries of custom operators .*libmine.so"),
        ({"providers": (("directml", {}),)}, "written for cpu, cuda, tensorrt, and this package for directml"),
        ({"providers": (("tensorrt", {"trt_op_types_to_exclude": "Gather"}),)}, "no key .*trt_op_types_to_exclude"),
        ({"session": {"config_entries": {"session.x": "1"}}}, "sets no session.config_entries such as session.x"),
        ({"session": {"graph_optimization_level": "most"}}, "no such level or mode"),
    ],
)
def test_what_triton_cannot_run_is_refused(package: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    change(package, **changes)
    with pytest.raises(PackageError, match=said):
        deploy("triton", package, tmp_path / "repository", Options())
    assert not (tmp_path / "repository").exists()


def test_nothing_is_overwritten_and_nothing_damaged_deployed(package: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    with pytest.raises(HostError, match="it exists and is not empty"):
        deploy("triton", package, tmp_path / "mine", Options())
    (package / "config.json").write_text("{ }")
    with pytest.raises(PackageError, match=r"config\.json"):
        deploy("triton", package, tmp_path / "repository", Options())
    assert sorted(path.name for path in tmp_path.iterdir() if "repository" in path.name) == []
    with pytest.raises(ConfigError, match="a package holds what was built, and no more"):
        deploy("triton", package, package / "triton", Options())
    assert not (package / "triton").exists()
