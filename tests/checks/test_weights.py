"""weights: nothing that an exporter or an optimizer does to a weight is a fault, and one wrong bit is."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from tiny_models import WEIGHTS_FILE, Config, only_component, random_batch
from user_modules import component_of, source_of, write_net

from modelbuild.candidates import CANDIDATES, Candidate
from modelbuild.checks.subject import Subject
from modelbuild.checks.weights import _unaccounted, account_of, examine, graph_tensors, missing_parameters
from modelbuild.errors import PackageError
from modelbuild.exporters import EXPORTERS, Exporter
from modelbuild.graph import MODEL_FILE, read_graph
from modelbuild.model_spec import InitSource
from modelbuild.node_tags import SCOPES_KEY
from modelbuild.precision_spec import Fp32Precision, HalfPrecision, Int8Precision, Precision, WeightsPrecision
from modelbuild.precisions import PRECISIONS, Reducer
from modelbuild.reference import load_reference
from modelbuild.report import Check
from modelbuild.spec import Opset, Providers, Session, Validation
from modelbuild.stage_spec import StageModel, ValidateSpec
from modelbuild.tagging import read_hierarchy, restore_tags
from modelbuild.tasks import TASKS, TaskName
from modelbuild.weights.entries import Account, Entry
from modelbuild.weights.tensors import Original

SIZES: Config = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 16,
}  # fmt: skip
DISTILBERT: Config = {
    "vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "max_position_embeddings": 16,
}  # fmt: skip
CONFIGS: dict[str, Config] = {
    "BertModel": SIZES,
    "DistilBertModel": DISTILBERT,
    "RobertaModel": {**SIZES, "max_position_embeddings": 18, "pad_token_id": 1},
    "AlbertModel": {**SIZES, "embedding_size": 24},
}


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Models made once, and their files by exporter and optimization."""

    root: Path

    def subject(self, family: str, exporter: str, optimization: str, task: TaskName = "feature-extraction") -> Subject:
        model = _reference(family, task)
        folder = self.root / f"{family}-{task}-{exporter}"
        if not folder.exists():
            folder.mkdir()
            _export(model, exporter, task, folder)
        shipped = self.root / f"{folder.name}-{optimization}"
        if not shipped.exists():
            shipped.mkdir()
            _optimize(model, optimization, folder, shipped)
        return _subject(model, family, task, folder / MODEL_FILE, shipped / MODEL_FILE)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(root=tmp_path_factory.mktemp("models"))


def _reference(family: str, task: TaskName) -> torch.nn.Module:
    """A tiny model in which no bias is 0 and no two parameters are alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "ElectraModel":  # it has no fused attention, which the reference asks for
            config = transformers.ElectraConfig(**SIZES, embedding_size=24)
            model: Any = transformers.ElectraModel._from_config(config, attn_implementation="eager").eval()
        elif family == "GPT2Model":
            config = transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=16)
            config.use_cache = False
            model = transformers.GPT2Model._from_config(config, attn_implementation="sdpa").eval()
        else:
            source = InitSource(kind="init", architecture=family, config=CONFIGS[family])
            model = load_reference(StageModel(source=source), TASKS[task], None)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return cast(torch.nn.Module, model)


def _names(model: torch.nn.Module, task: TaskName, exporter: str) -> tuple[str, ...]:
    """The inputs as the exporter calls them: Optimum leaves out what a family never uses, and adds positions."""
    family = type(model).__name__
    if exporter == "optimum" and family.startswith("Roberta"):
        return ("input_ids", "attention_mask")
    if exporter == "optimum" and family.startswith("GPT2"):
        return ("input_ids", "attention_mask", "position_ids")
    return only_component(model, TASKS[task]).interface.input_names()


def _export(model: torch.nn.Module, exporter: str, task: TaskName, out: Path) -> None:
    names, component = _names(model, task, exporter), only_component(model, TASKS[task])
    batch = random_batch(component, batch=3, sequence=7, mask="right")
    inputs = {name: batch.inputs.get(name, np.tile(np.arange(7), (3, 1))) for name in names}
    traced = replace(batch, inputs=inputs)
    module = cast(Exporter, importlib.import_module(EXPORTERS[exporter]))
    module.export(component, TASKS[task], traced, 20, None, out / MODEL_FILE)


def _optimize(model: Any, optimization: str, folder: Path, out: Path) -> None:
    facts = {
        "architecture": {
            "model_type": model.config.model_type, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2,
        },
        "hierarchy": read_hierarchy(folder / MODEL_FILE, "unknown").facts(),
    }  # fmt: skip
    candidate = cast(Candidate, importlib.import_module(CANDIDATES[optimization]))
    candidate.optimize(optimization, folder / MODEL_FILE, facts, out / MODEL_FILE)


def _subject(model: torch.nn.Module, family: str, task: TaskName, exported: Path, shipped: Path) -> Subject:
    spec = ValidateSpec(
        model=StageModel(source=InitSource(kind="init", architecture=family)),
        task=task,
        opset=Opset(version=20),
        precision=Fp32Precision(kind="fp32"),
        providers=Providers(order=("cpu",)),
        session=Session(),
        validation=Validation(kind="strict"),
    )
    return Subject(
        spec=spec,
        task=TASKS[task],
        model_file=shipped,
        exported_file=exported,
        exported_facts={},
        graph=read_graph(shipped),
        sidecar=shipped.parent,
        source=None,
        reference=model,
        component=only_component(model, TASKS[task]),
        limits={},
    )


def _checks(subject: Subject) -> dict[str, Check]:
    return {check.name: check for check in examine(subject)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "exporter", "optimizations"),
    [
        ("BertModel", "dynamo", ("none", "basic", "extended", "transformer")),
        ("BertModel", "optimum", ("none", "basic", "extended", "transformer")),
        ("DistilBertModel", "dynamo", ("none", "transformer")),
        ("DistilBertModel", "optimum", ("extended", "transformer")),
        ("RobertaModel", "dynamo", ("none", "transformer")),
        ("RobertaModel", "optimum", ("none", "transformer")),
        ("ElectraModel", "dynamo", ("none", "transformer")),
        ("ElectraModel", "optimum", ("extended", "transformer")),
        ("AlbertModel", "dynamo", ("none", "transformer")),
        ("AlbertModel", "optimum", ("none", "extended")),
        ("GPT2Model", "optimum", ("none", "extended")),
    ],
)
def test_what_exporters_and_optimizers_do_is_no_fault(
    family: str, exporter: str, optimizations: tuple[str, ...], shop: Shop
) -> None:
    for optimization in optimizations:
        checks = _checks(shop.subject(family, exporter, optimization))
        assert all(check.passed for check in checks.values()), checks
        assert checks["weights"].worst == 0
        assert checks["weights.unaccounted"].compared == "0 tensors, 0 values"


@pytest.mark.slow
def test_a_tied_head_and_one_with_few_labels_are_accounted_for(shop: Shop) -> None:
    tasks: tuple[TaskName, ...] = ("fill-mask", "text-classification", "question-answering")
    for task in tasks:
        assert all(check.passed for check in _checks(shop.subject("BertModel", "dynamo", "none", task)).values())


@pytest.mark.slow
def test_the_check_counts_and_the_account_names_what_a_packed_weight_is_made_of(shop: Shop) -> None:
    subject = shop.subject("BertModel", "dynamo", "transformer")
    assert _checks(subject)["weights"].compared == "29 tensors, 17696 values: 19 equal, 10 derived"
    packed = [entry for entry in account_of(subject).entries if entry.relation == "packed" and len(entry.shape) == 2]
    attention = "encoder.layer.0.attention.self"
    assert packed[0].originals == tuple(f"{attention}.{part}.weight" for part in ("query", "key", "value"))
    assert packed[0].shape == (32, 96)


def _in(precision: Precision, subject: Subject, folder: Path) -> Subject:
    """The subject with its graph in that precision."""
    batches = [random_batch(subject.component, batch=2, sequence=7, mask="right", seed=seed) for seed in range(3)]
    reducer = cast(Reducer, importlib.import_module(PRECISIONS[precision.kind]))
    folder.mkdir()
    restore_tags(subject.model_file, subject.exported_file)
    calibration = [batch.inputs for batch in batches]
    reducer.reduce(subject.model_file, folder / MODEL_FILE, precision, calibration=calibration)
    return replace(subject, model_file=folder / MODEL_FILE)


_LIMITS: dict[str, Any] = {"min_cosine": 0, "min_top_1": 0}
_BLOCKS: dict[str, Any] = _LIMITS | {"max_fp32_layers": 0, "block_size": 32, "accuracy_level": 4}


@pytest.mark.slow
def test_what_a_precision_does_is_no_fault_and_swapped_layers_are(shop: Shop, tmp_path: Path) -> None:
    subject = shop.subject("BertModel", "dynamo", "multi_head_attention")
    precisions: tuple[Precision, ...] = (
        HalfPrecision(kind="fp16", **_LIMITS),
        HalfPrecision(kind="bf16", **_LIMITS),
        Int8Precision(kind="int8_static", max_fp32_layers=0, **_LIMITS),
        WeightsPrecision(kind="int8_weights", **_BLOCKS),
        WeightsPrecision(kind="int4", **_BLOCKS),
    )
    for precision in precisions:
        reduced = _in(precision, subject, tmp_path / precision.kind)
        assert read_graph(reduced.model_file).signature == subject.graph.signature
        assert read_graph(reduced.model_file).tagged_nodes == read_graph(reduced.model_file).nodes
        checks = _checks(reduced)
        assert all(check.passed for check in checks.values()), checks
        assert checks["weights"].worst == 0
        assert checks["weights.unaccounted"].compared == "0 tensors, 0 values"
    (tmp_path / "swapped").mkdir()
    check = _checks(_edited(reduced, tmp_path / "swapped", _queries_swapped))["weights"]
    assert not check.passed
    assert "attention.self.query.weight is in the place of encoder.layer." in check.where


def _queries_swapped(model: onnx.ModelProto) -> None:
    """What the first layer multiplies its queries by is what the second does, and the other way round."""
    found = [
        node
        for node in model.graph.node
        for prop in node.metadata_props
        if node.op_type == "MatMulNBits" and prop.key == SCOPES_KEY and ".self.query" in prop.value
    ]
    first, second = (list(node.input[1:4]) for node in found)
    found[0].input[1:4], found[1].input[1:4] = second, first


def _edited(subject: Subject, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Subject:
    model = onnx.load(subject.model_file)
    change(model)
    onnx.save(model, folder / MODEL_FILE, save_as_external_data=True, location=WEIGHTS_FILE, size_threshold=0)
    return replace(subject, model_file=folder / MODEL_FILE)


def _change(shape: tuple[int, ...] | str, harm: Callable[[Any], None]) -> Callable[[onnx.ModelProto], None]:
    """Harm the first float tensor of that shape, or whose name ends so."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(
            item
            for item in model.graph.initializer
            if item.data_type == TensorProto.FLOAT
            and (item.name.endswith(shape) if isinstance(shape, str) else tuple(item.dims) == shape)
        )
        values = numpy_helper.to_array(tensor).copy()
        harm(values)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return change


def _next(*index: int) -> Callable[[Any], None]:
    def harm(values: Any) -> None:
        values[index] = np.nextafter(values[index], np.float32(9))

    return harm


def _assign(target: Any, source: Any) -> Callable[[Any], None]:
    def harm(values: Any) -> None:
        values[target] = values[source].copy() if not isinstance(source, float) else source

    return harm


WORDS, POSITIONS = "word_embeddings.weight", "position_embeddings.weight"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "harm", "faulty", "where"),
    [
        ((32, 48), _next(3, 7), 1, "encoder.layer.0.intermediate.dense.weight[7, 3] is "),
        ((48, 32), _next(47, 31), 1, "encoder.layer.0.output.dense.weight[31, 47] is "),
        (WORDS, _next(63, 5), 1, "embeddings.word_embeddings.weight[63, 5] is "),
        (WORDS, _assign(17, 0.5), 32, "embeddings.word_embeddings.weight[17, 0] is "),
        (POSITIONS, _next(15, 31), 1, "embeddings.position_embeddings.weight[15, 31] is "),
        (POSITIONS, _assign(15, 14), 32, "embeddings.position_embeddings.weight[15, 0] is "),
        (WORDS, _assign([3, 4], [4, 3]), 64, "embeddings.word_embeddings.weight[3, 0] is "),
        ((32, 48), _assign(5, 0.5), 48, "encoder.layer.0.intermediate.dense.weight[0, 5] is "),
        ("layer.1.attention.output.dense.bias", _next(31), 1, "encoder.layer.1.attention.output.dense.bias[31] is "),
    ],
)
@pytest.mark.parametrize("exporter", ["dynamo", "optimum"])
def test_a_planted_fault_is_found_and_named(
    exporter: str, shape: Any, harm: Any, faulty: int, where: str, shop: Shop, tmp_path: Path
) -> None:
    subject = _edited(shop.subject("BertModel", exporter, "extended"), tmp_path, _change(shape, harm))
    check = _checks(subject)["weights"]
    assert not check.passed
    assert (check.worst, check.limit) == (faulty, 0)
    name, _, rest = check.where.partition(": ")
    assert name in {item.name for item in onnx.load(subject.model_file).graph.initializer}
    assert rest.startswith(where)
    assert " in PyTorch and " in rest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "harm", "faulty", "where"),
    [
        ((32, 96), _next(3, 40), 1, "key.weight[8, 3] is "),
        ((32, 96), _assign((slice(None), 64), 0.5), 32, "value.weight[0, 0] is "),
        ((32, 96), _assign((slice(None), [3, 9]), (slice(None), [9, 3])), 64, "query.weight["),
        ((32, 96), _assign(4, 0.5), 96, "query.weight[0, 4] is "),
        ((96,), _next(95), 1, "value.bias[31] is "),
    ],
)
@pytest.mark.parametrize("exporter", ["dynamo", "optimum"])
def test_a_planted_fault_in_packed_attention_is_found_and_named(
    exporter: str, shape: Any, harm: Any, faulty: int, where: str, shop: Shop, tmp_path: Path
) -> None:
    subject = _edited(shop.subject("BertModel", exporter, "transformer"), tmp_path, _change(shape, harm))
    check = _checks(subject)["weights"]
    assert not check.passed
    assert check.worst == faulty
    assert f".attention.self.{where}" in check.where


@pytest.mark.slow
def test_a_parameter_that_outputs_depend_on_is_missed_and_the_pooler_is_not(shop: Shop, tmp_path: Path) -> None:
    def unlike(values: Any) -> None:
        values[:] = np.random.default_rng(5).standard_normal(values.shape)

    subject = _edited(shop.subject("BertModel", "dynamo", "none"), tmp_path, _change((32, 48), unlike))
    checks = _checks(subject)
    assert checks["weights"].passed
    missed = checks["weights.unaccounted"]
    assert not missed.passed
    assert missed.worst == 1
    assert missed.compared.startswith("1 tensors, 1536 values: ")
    assert missed.where == "no weight of the graph comes from encoder.layer.0.intermediate.dense.weight [48, 32]"


@pytest.mark.parametrize(
    ("sizes", "passed"),
    [((), False), ((11,), False), ((12,), True), ((7, 5), False), ((6, 6), True), ((100,), True), ((100, 7), False)],
)
def test_missing_parameters_are_excused_only_by_what_all_of_them_may_have_been_folded_into(
    sizes: tuple[int, ...], passed: bool
) -> None:
    missing = [Original(names=(f"of {size}",), values=np.zeros(size, dtype=np.float32)) for size in (7, 5)]
    entries = tuple(Entry(name=f"folded.{size}", shape=(size,), relation="unaccounted") for size in sizes)
    check = _unaccounted(Account(entries=entries, absent=tuple(missing)), missing)
    assert check.passed is passed
    assert all(f"folded.{size} [{size}]" in check.compared for size in sizes)


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ("return self.linear(features).argmax(-1)", set()),
        ("return self.linear(features).detach()", set()),
        ("return {'scores': self.linear(features), 'best': self.linear(features).argmax(-1)}", {"weight", "bias"}),
        ("return {'scores': features, 'best': self.linear(features).argmax(-1)}", set()),
    ],
)
def test_parameters_are_missed_as_far_as_outputs_have_gradients(body: str, missing: set[str], tmp_path: Path) -> None:
    path = write_net(tmp_path, f"\n    def forward(self, features):\n        {body}\n")
    inputs = {"features": {"dtype": "float32", "shape": ["batch", 4]}}
    component = component_of(source_of(path, inputs=inputs))
    value = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 4])
    node = helper.make_node("Identity", ["features"], ["output"])
    result = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 4])
    onnx.save(helper.make_model(helper.make_graph([node], "g", [value], [result])), tmp_path / MODEL_FILE)
    reference = _reference("BertModel", "feature-extraction")
    file = tmp_path / MODEL_FILE
    subject = replace(_subject(reference, "BertModel", "feature-extraction", file, file), component=component)
    found = missing_parameters(subject, account_of(subject))
    assert {name for original in found for name in original.names} == {f"linear.{name}" for name in missing}


@pytest.mark.slow
def test_a_constant_that_is_no_weight_is_listed_and_passes(shop: Shop, tmp_path: Path) -> None:
    def add(model: onnx.ModelProto) -> None:
        window = np.random.default_rng(5).standard_normal((4, 5)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(window, "window"))

    check = _checks(_edited(shop.subject("BertModel", "dynamo", "none"), tmp_path, add))["weights.unaccounted"]
    assert check.passed
    assert check.compared == "1 tensors, 20 values: window [4, 5]"


@pytest.mark.slow
def test_the_reference_is_left_as_it_was(shop: Shop, tmp_path: Path) -> None:
    subject = _edited(shop.subject("BertModel", "dynamo", "none"), tmp_path, _change((32, 48), _assign(0, 0.5)))
    before = {name: tensor.clone() for name, tensor in subject.reference.state_dict().items()}
    _checks(subject)
    after = subject.reference.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in subject.reference.parameters())


def _model_with_weights_everywhere(path: Path) -> None:
    def constant(name: str, **attribute: Any) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [name], **attribute)

    def branch(name: str) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.arange(9, dtype=np.float32), f"{name}_weight")
        output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [9])
        return helper.make_graph(
            [helper.make_node("Identity", [f"{name}_weight"], [f"{name}_out"])], name, [], [output], [weight]
        )

    nodes = [
        constant("tensor", value=numpy_helper.from_array(np.ones((2, 2), np.float32))),
        constant("floats", value_floats=[1.0, 2.0]),
        helper.make_node("If", ["flag"], ["out"], then_branch=branch("then"), else_branch=branch("else")),
    ]
    function = helper.make_function(
        "local",
        "Fixed",
        [],
        ["inside"],
        [constant("inside", value=numpy_helper.from_array(np.zeros(3, np.float32)))],
        [helper.make_opsetid("", 20)],
    )
    nodes.append(helper.make_node("Fixed", [], ["fixed"], domain="local"))
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [9])
    graph = helper.make_graph(nodes, "main", [flag], [out], [numpy_helper.from_array(np.ones(5), "initializer")])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[function]), path)


def test_weights_are_found_in_initializers_constants_subgraphs_and_functions(tmp_path: Path) -> None:
    _model_with_weights_everywhere(tmp_path / MODEL_FILE)
    found = {name: values.shape for name, values in graph_tensors(tmp_path / MODEL_FILE)}
    assert found == {
        "initializer": (5,), "then_weight": (9,), "else_weight": (9,), "tensor": (2, 2), "floats": (2,), "inside": (3,),
    }  # fmt: skip


def _without_data(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()


def _cut_data(folder: Path) -> None:
    os.truncate(folder / WEIGHTS_FILE, 100)


def _empty_data(folder: Path) -> None:
    os.truncate(folder / WEIGHTS_FILE, 0)


def _no_onnx(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"hello")


def _no_file(folder: Path) -> None:
    (folder / MODEL_FILE).unlink()


@pytest.mark.parametrize("harm", [_without_data, _cut_data, _empty_data, _no_onnx, _no_file])
def test_a_file_that_is_damaged_is_refused_in_one_line(harm: Callable[[Path], None], tmp_path: Path) -> None:
    values = numpy_helper.from_array(np.ones((40, 40), np.float32), "w")
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [40, 40])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["out"])], "main", [], [out], [values])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.save(model, tmp_path / MODEL_FILE, save_as_external_data=True, location=WEIGHTS_FILE, size_threshold=0)
    harm(tmp_path)
    with pytest.raises(PackageError, match="its weights cannot be read") as caught:
        list(graph_tensors(tmp_path / MODEL_FILE))
    assert len(caught.value.lines()) == 1
    assert str(tmp_path) in str(caught.value)
