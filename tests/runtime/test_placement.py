"""Where nodes run. AzureExecutionProvider is in ONNX Runtime's CPU wheel and takes no node: whoever asks for it is
displaced.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelbuild.errors import HostError, InputError, ModelbuildError, PackageError
from modelbuild.runtime.placement import Feed, Placement, node_placement, require_unchanged
from modelbuild.runtime.profile import Kernel, Profile, count_copies, read_profile, time_off
from modelbuild.runtime.session import ProviderChoice, SessionSettings, open_session

AZURE, CPU, CUDA = "AzureExecutionProvider", "CPUExecutionProvider", "CUDAExecutionProvider"
TOKENS = {"input_ids": np.array([[1, 2, 3], [4, 5, 6]]), "attention_mask": np.ones((2, 3), dtype=np.int64)}
ROWS = {"x": np.ones((3, 4), dtype=np.float32)}

pytestmark = pytest.mark.skipif(AZURE not in ort.get_available_providers(), reason="a provider without nodes is needed")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where temporary files go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def place(
    model: Path,
    *names: str,
    feeds: Sequence[Feed] = (ROWS,),
    settings: SessionSettings | None = None,
    allow_fallback: bool = False,
) -> Placement:
    return node_placement(
        model,
        providers=[(name, {}) for name in names],
        settings=settings or SessionSettings(intra_op_num_threads=1),
        inputs=feeds,
        allow_fallback=allow_fallback,
    )


def save(path: Path, nodes: list[onnx.NodeProto], *inputs: onnx.ValueInfoProto) -> Path:
    """A model from `x`, float `(n, 4)`, and other `inputs` to `y`, of the same shape."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    weights = [
        numpy_helper.from_array(np.eye(4, dtype=np.float32), "weight"),
        numpy_helper.from_array(np.array(1), "one"),
    ]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "placed", [x, *inputs], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def counts(placement: Placement) -> dict[str, tuple[int, int]]:
    """Nodes off the asked providers, and those of them that compute, by operator."""
    return {item.operator: (item.nodes, item.compute) for item in placement.displaced}


def test_on_the_cpu_every_node_is_where_it_was_asked_for(model_file: Path, scratch: Path) -> None:
    placement = place(model_file, "cpu", feeds=[TOKENS])
    assert (placement.asked, placement.active) == ((CPU,), (CPU,))
    assert placement.nodes == {CPU: 4}
    assert (placement.displaced, placement.compute_off, placement.copies, placement.time_off) == ((), 0, 0, 0.0)
    assert placement.tensors == 3
    assert list(scratch.iterdir()) == []


def test_nodes_that_a_provider_does_not_take_are_displaced_to_the_cpu(model_file: Path) -> None:
    placement = place(model_file, AZURE, feeds=[TOKENS])
    assert placement.active == (AZURE, CPU)
    assert placement.nodes == {CPU: 4}
    assert counts(placement) == {"Gather": (1, 1), "Mul": (1, 1), "Unsqueeze": (1, 1), "Cast": (1, 0)}
    assert placement.compute_off == 3
    assert 0 < placement.time_off <= 1


def test_a_fallback_that_was_asked_for_displaces_nothing(model_file: Path) -> None:
    placement = place(model_file, AZURE, "cpu", feeds=[TOKENS])
    assert (placement.asked, placement.displaced, placement.time_off) == ((AZURE, CPU), (), 0.0)


def test_a_fallback_that_is_allowed_is_told_all_the_same(model_file: Path) -> None:
    placement = place(model_file, AZURE, feeds=[TOKENS], allow_fallback=True)
    assert placement.allow_fallback
    assert placement.compute_off == 3


def test_shapes_and_single_numbers_are_bookkeeping_and_tensors_are_not(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["width"]),
        helper.make_node("Cast", ["width"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["float"], ["scale"]),
        helper.make_node("MatMul", ["x", "weight"], ["product"], name="the_product"),
        helper.make_node("Div", ["product", "scale"], ["y"]),
    ]
    placement = place(save(tmp_path / "scaled.onnx", nodes), AZURE)
    computing = {operator: numbers for operator, numbers in counts(placement).items() if numbers[1]}
    assert computing == {"MatMul": (1, 1), "Div": (1, 1)}
    assert {item.operator for item in placement.displaced} == {"Shape", "Gather", "Cast", "Sqrt", "MatMul", "Div"}
    assert f"MatMul x 1 (first: the_product) on {CPU}" in map(str, placement.displaced)


def test_nodes_of_both_branches_count_and_their_time_counts_once(tmp_path: Path) -> None:
    def branch(operator: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(operator, TensorProto.FLOAT, ["n", 4])
        return helper.make_graph([helper.make_node(operator, ["x"], [operator], name=f"in {operator}")], "b", [], [out])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("Relu"), else_branch=branch("Sigmoid"))
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    feed = {"x": np.ones((500, 4), dtype=np.float32), "flag": np.array(True)}
    placement = place(save(tmp_path / "branches.onnx", [node], flag), AZURE, feeds=[feed])
    assert counts(placement) == {"Relu": (1, 1), "Sigmoid": (1, 1), "If": (1, 0)}
    assert 0 < placement.time_off < 1


def test_what_was_fused_after_the_assignment_is_told_too(tmp_path: Path) -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["xt"])]
    nodes += [helper.make_node("MatMul", ["xt", "x"], ["y"])]
    fused = place(save(tmp_path / "fused.onnx", nodes), AZURE)
    assert {"Transpose", "MatMul", "FusedMatMul"} == set(counts(fused))
    plain = SessionSettings(intra_op_num_threads=1, graph_optimization_level="none")
    assert set(counts(place(tmp_path / "fused.onnx", AZURE, settings=plain))) == {"Transpose", "MatMul"}


def test_an_operator_of_another_domain_carries_its_name(tmp_path: Path) -> None:
    node = helper.make_node("FastGelu", ["x"], ["y"], domain="com.microsoft")
    assert counts(place(save(tmp_path / "gelu.onnx", [node]), AZURE)) == {"com.microsoft.FastGelu": (1, 1)}


@pytest.mark.parametrize(
    ("providers", "feeds", "kind", "message"),
    [
        ([("cpu", {})], [], InputError, r"no inputs: only a run tells where nodes run: model\.onnx"),
        ([("cpu", {})], [{"ids": TOKENS["input_ids"]}], InputError, "these inputs do not run: .*input_ids"),
        ([("cpu", {})], [TOKENS | {"input_ids": np.array([[99, 0, 0]] * 2)}], InputError, "do not run: .*bounds"),
        ([], [TOKENS], HostError, "no provider is given"),
        ([("CudaExecutionProvider", {})], [TOKENS], HostError, "did you mean"),
        ([("cpu", {"threads": 4})], [TOKENS], HostError, "CPUExecutionProvider has no option 'threads'"),
    ],
)
def test_what_cannot_be_placed_is_refused(
    providers: list[ProviderChoice],
    feeds: list[Feed],
    kind: type[ModelbuildError],
    message: str,
    model_file: Path,
    scratch: Path,
) -> None:
    with pytest.raises(kind, match=message) as caught:
        node_placement(model_file, providers=providers, settings=SessionSettings(), inputs=feeds)
    assert len(caught.value.lines()) == 1
    assert list(scratch.iterdir()) == []


def test_a_file_that_is_no_model_is_a_package_error(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(PackageError, match="cannot open the model"):
        place(tmp_path / "bad.onnx", "cpu")


def test_a_cpu_that_is_forbidden_is_this_machines_fault_and_not_the_files(model_file: Path) -> None:
    settings = SessionSettings(config_entries={"session.disable_cpu_ep_fallback": "1"})
    message = f"ONNX Runtime opens no session on {AZURE} with these settings: .*fallback to CPU EP has been explicitly"
    for allow_fallback in (False, True):
        with pytest.raises(HostError, match=message):
            place(model_file, AZURE, feeds=[TOKENS], settings=settings, allow_fallback=allow_fallback)
    with pytest.raises(HostError, match=f"opens no session on {CPU} with these settings: .*Conflicting session conf"):
        place(model_file, "cpu", feeds=[TOKENS], settings=settings)


def test_a_session_that_changes_its_providers_in_a_run_is_found(model_file: Path) -> None:
    session = open_session(model_file, providers=[(AZURE, {})], settings=SessionSettings(intra_op_num_threads=1))
    opened = session.get_providers()
    require_unchanged(session, opened, "model.onnx")
    session.set_providers([CPU])  # what ONNX Runtime itself does when a provider fails in a run
    with pytest.raises(HostError, match=rf"went over from {AZURE}, {CPU} to {CPU} in a run: model\.onnx: the provider"):
        require_unchanged(session, opened, "model.onnx")


def event(name: str, operator: str, provider: str, start: float, duration: float, **shape: list[int]) -> dict[str, Any]:
    arguments = {"op_name": operator, "provider": provider, "input_type_shape": [shape]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": duration, "args": arguments}


def run(start: float, duration: float) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": duration, "args": {}}


# As ONNX Runtime writes it for a session on CUDA: two runs, of which the second is the one that counts.
EVENTS = [
    {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 9, "args": {}},
    event("Memcpy_1", "MemcpyToHost", CUDA, 11, 50, float=[2, 3]),
    event("product", "MatMul", CUDA, 70, 500, float16=[2, 3]),
    run(10, 600),
    event("Memcpy_1", "MemcpyToHost", CUDA, 710, 5, float=[2, 3]),
    event("Memcpy_2", "MemcpyFromHost", CUDA, 715, 5, int64=[2]),
    event("product", "MatMul", CUDA, 720, 10, float16=[2, 3]),
    event("shape", "Shape", CPU, 730, 8, bfloat16=[2, 3]),
    event("fallen", "Softmax", CPU, 740, 12, float=[2, 3]),
    run(700, 80),
]


def test_copies_are_counted_as_nodes_however_often_they_ran() -> None:
    assert count_copies(read_profile(EVENTS)) == 2


def test_the_share_of_time_is_that_of_the_runs_after_the_first() -> None:
    profile = read_profile(EVENTS)
    assert time_off(profile.since(1), [CUDA]) == pytest.approx(20 / 80)
    assert time_off(profile, [CUDA]) == pytest.approx(20 / 680)
    assert time_off(profile, [CUDA, CPU]) == 0
    assert [kernel.reads_floats for kernel in profile.kernels[3:]] == [False, True, True, True]


def test_kernels_side_by_side_that_take_longer_than_the_run_are_the_whole() -> None:
    kernels = tuple(
        Kernel(node=str(n), operator="MatMul", provider=p, started_us=0, duration_us=60, reads_floats=True)
        for n, p in enumerate((CPU, CUDA))
    )
    assert time_off(Profile(kernels=kernels, runs=((0, 70),)), [CUDA]) == 0.5
    assert time_off(Profile(kernels=(), runs=()), [CUDA]) == 0
