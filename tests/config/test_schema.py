from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from modelbuild.config.schema import decode, known_keys
from modelbuild.errors import ConfigError
from modelbuild.exporter_spec import FileExporter
from modelbuild.model_spec import PathSource
from modelbuild.spec import BuildSpec

VALUES: dict[str, Any] = {
    "model": {"name": "tiny", "source": {"kind": "init", "architecture": "BertModel", "config": {"hidden_size": 8}}},
    "task": {"name": "auto"},
    "opset": {"version": 18},
    "exporter": {"kind": "dynamo"},
    "sidecar": {"kind": "auto"},
    "optimization": {"kind": "none"},
    "precision": {"kind": "fp32"},
    "providers": {"order": ["cpu"]},
    "session": {},
    "validation": {"kind": "quick"},
    "benchmark": {"kind": "quick"},
}
HUB = {"kind": "hub", "repository": "org/bert", "revision": "0" * 40}
OWN = {"kind": "file", "path": "a.onnx"}
ABSENT = object()


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The values with some dotted keys set, or taken out."""
    values = copy.deepcopy(VALUES)
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is ABSENT:
            del place[last]
        else:
            place[last] = value
    return values


def refused(changes: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        decode(changed(changes), Path("/base"))
    return [str(problem) for problem in caught.value.problems]


def test_a_configuration_becomes_a_frozen_build() -> None:
    spec = decode(VALUES, Path("/base"))
    assert (spec.model.name, spec.opset.version, spec.providers.order) == ("tiny", 18, ("cpu",))
    with pytest.raises(ValueError, match="frozen"):
        spec.opset.version = 17


def test_every_dotted_key_of_a_build_is_known_and_free_keys_are_marked() -> None:
    known = set(known_keys())
    assert set(BuildSpec.model_fields) <= known
    assert {"model.source.revision", "model.source.config.*", "providers.cuda.use_tf32", "validation.rtol"} <= known
    assert "model.source.config" in known
    assert not any(key.startswith("host") for key in known)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"opest": {"version": 17}}, "unknown key: opest: did you mean 'opset'?"),
        ({"model.nmae": "x"}, "unknown key: model.nmae: did you mean 'name'?"),
        (
            {"benchmark.sequence_length": 64},
            "unknown key: benchmark.sequence_length: did you mean 'sequence_lengths'?",
        ),
        ({"session.intra_op_num_thread": 1}, "unknown key: session.intra_op_num_thread: did you mean"),
        ({"providers.cuda": {"use_tf": True}}, "unknown key: providers.cuda.use_tf: did you mean 'use_tf32'?"),
        ({"model.source": HUB | {"seed": 1}}, "unknown key: model.source.seed: it belongs to model.source=init"),
        ({"exporter": {"kind": "dynamo", "path": "a.onnx"}}, "unknown key: exporter.path: it belongs to exporter=file"),
        (
            {"exporter": {"kind": "file", "path": "a", "input": {}}},
            "unknown key: exporter.input: did you mean 'inputs'",
        ),
        ({"model.source.allow_pickle": True}, "unknown key: model.source.allow_pickle: it belongs to model.source="),
        ({"model.source": {"kind": "path", "path": "a", "pth": "b"}}, "unknown key: model.source.pth: did you mean"),
    ],
)
def test_an_unknown_key_is_refused_with_one_that_exists_there(changes: dict[str, Any], line: str) -> None:
    assert [problem[: len(line)] for problem in refused(changes)] == [line]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"session.intra_op_num_threads": "two"}, 'valid integer, got "two": session.intra_op_num_threads'),
        ({"session.intra_op_num_threads": 1.5}, "valid integer, got 1.5: session.intra_op_num_threads"),
        ({"session.allow_spinning": 1}, "valid boolean, got 1: session.allow_spinning"),
        ({"model.source": HUB | {"allow_pickle": "yes"}}, 'valid boolean, got "yes": model.source.allow_pickle'),
        ({"session": None}, "an object, got null: session"),
        ({"model": ["a"]}, 'an object, got ["a"]: model'),
        ({"providers.order": "cpu"}, 'valid array, got "cpu": providers.order: write a list: providers.order=[…]'),
        (
            {"exporter": {"kind": "file", "path": 3}},
            "valid string, got 3: exporter.path: quote it: exporter.path=\"'…'\" on the command line, '…' in YAML",
        ),
        (
            {"exporter": {"kind": "file", "path": "a", "inputs": ["ids"]}},
            'an object, got ["ids"]: exporter.inputs',
        ),
    ],
)
def test_a_wrong_type_is_refused_and_never_converted(changes: dict[str, Any], line: str) -> None:
    assert refused(changes) == [f"input should be {'' if line.startswith('an ') else 'a '}{line}"]


def test_a_number_where_text_belongs_is_refused_with_how_to_quote_it() -> None:
    line = refused({"model.source": HUB | {"revision": 42798}})[0]
    assert line.startswith("input should be a valid string, got 42798: model.source.revision: quote it: ")
    assert "model.source.revision=\"'…'\"" in line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"opset.version": 19}, "'19' is not possible: opset.version: choose one of 17, 18, 20, 21, 23, auto"),
        ({"optimization.kind": "extendd"}, "'extendd' is not possible: optimization.kind: did you mean 'extended'?"),
        ({"task.name": "fill-maks"}, "'fill-maks' is not possible: task.name: did you mean 'fill-mask'?"),
        ({"model.source": {"kind": "pth"}}, "'pth' is not possible: model.source: did you mean 'path'?"),
        ({"providers.order": ["CudaExecutionProvider"]}, "'CudaExecutionProvider' is not possible: providers.order.0:"),
    ],
)
def test_a_value_that_is_no_choice_is_one_line_with_a_suggestion(changes: dict[str, Any], line: str) -> None:
    assert [problem[: len(line)] for problem in refused(changes)] == [line]


@pytest.mark.parametrize(
    "changes",
    [
        {"validation.atol": -1},
        {"validation.atol": 1e9},
        {"validation.floor": 0.0},
        {"benchmark.rounds": 0},
        {"benchmark.batch_sizes": []},
        {"benchmark.batch_sizes": [0]},
        {"benchmark.sequence_lengths": []},
        {"benchmark.sequence_lengths": [16, 0]},
        {"benchmark.sequence_lengths": [65537]},
        {"benchmark.rounds": 4},
        {"benchmark.loads": 2},
        {"benchmark.compile": "yes"},
        {"session.intra_op_num_threads": -1},
        {"providers.order": []},
        {"providers.order": ["cpu", "cpu"]},
        {"model.name": "../../etc"},
        {"model.name": "n" * 65},
        {"model.source": HUB | {"revision": "main"}},
        {"model.source": HUB | {"repository": "../up"}},
        {"model.source": HUB | {"digests": {"model.safetensors": "abc"}}},
        {"model.source": {"kind": "path", "path": ""}},
        {"model.source.seed": -1},
        {"exporter": {"kind": "file", "path": ""}},
        {"exporter": {"kind": "file", "path": "a", "inputs": {"input_ids": ""}}},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused_with_its_key(changes: dict[str, Any]) -> None:
    key = next(iter(changes))
    assert [key.rpartition(".")[0] in problem for problem in refused(changes)] == [True]


@pytest.mark.parametrize("missing", ["model", "opset.version", "model.source.architecture", "exporter.kind"])
def test_what_is_required_and_not_given_says_how_to_set_it(missing: str) -> None:
    assert refused({missing: ABSENT}) == [f"required, and not given: {missing}: set {missing}=…"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exporter.kind": "optimum", "opset.version": 21}, "opset=21 with exporter=optimum: at most 20"),
        ({"exporter.kind": "optimum", "opset.version": "auto"}, "opset=auto with exporter=optimum: choose a number"),
        (
            {"exporter": OWN | {"inputs": {"input_ids": "ids", "attention_mask": "ids"}}},
            "input_ids and attention_mask cannot both be 'ids': exporter.inputs",
        ),
        (
            {"providers.order": ["cuda"], "session.execution_mode": "parallel"},
            "session.execution_mode=parallel with providers=cuda",
        ),
        ({"providers.order": ["cpu", "cuda"]}, "providers.order has cpu before another provider"),
        (
            {"session.config_entries": {"session.disable_cpu_ep_fallback": "1"}},
            "session.disable_cpu_ep_fallback=1 with cpu in providers.order",
        ),
        (
            {
                "providers": {"order": ["cuda"], "allow_fallback": True},
                "session.config_entries": {"session.disable_cpu_ep_fallback": "1"},
            },
            "session.disable_cpu_ep_fallback=1 with cpu in providers.order or allow_fallback=true",
        ),
        ({"validation": {"kind": "off", "seed": 3}}, "validation=off with other validation keys"),
        ({"session.inter_op_num_threads": 2}, "inter_op_num_threads has an effect only with execution_mode=parallel"),
    ],
)
def test_a_combination_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    assert [words in problem for problem in refused(changes)] == [True]


def test_combinations_that_cannot_be_are_all_shown() -> None:
    assert (
        len(refused({"exporter.kind": "optimum", "opset.version": 21, "validation": {"kind": "off", "seed": 3}})) == 2
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("memory.pattern_optimization.enabled", "it never existed; use session.enable_mem_pattern"),
        ("session.intra_op_num_threads", "use the key session.intra_op_num_threads of modelbuild"),
        ("session.set_denormal_as_zer", "did you mean 'session.set_denormal_as_zero'?"),
    ],
)
def test_a_session_config_key_that_onnxruntime_has_not_is_refused(key: str, words: str) -> None:
    (problem,) = refused({"session": {"config_entries": {key: "1"}}})
    assert f"ONNX Runtime has no session config key '{key}'" in problem
    assert words in problem


def test_all_problems_are_collected_in_one_error() -> None:
    wrong = {
        "opset.version": 19,
        "sesion": {},
        "session.allow_spinning": "yes",
        "model.source.seed": -1,
        "task": ABSENT,
    }
    keys = ("opset.version", "sesion", "session.allow_spinning", "model.source.seed", "task")
    found = refused(wrong)
    assert len(found) == len(keys)
    assert all(any(f": {key}" in line for line in found) for key in keys)


def test_a_relative_path_is_taken_from_the_base_and_an_absolute_one_stays() -> None:
    for given, absolute in (("models/../m", "/base/m"), ("/models/m", "/models/m")):
        changes = {"model.source": {"kind": "path", "path": given}, "exporter": {"kind": "file", "path": given}}
        spec = decode(changed(changes), Path("/base"))
        assert isinstance(spec.model.source, PathSource)
        assert isinstance(spec.exporter, FileExporter)
        assert spec.model.source.path == spec.exporter.path == absolute


@pytest.mark.parametrize(
    ("name", "meant"),
    [("gpu", "cuda"), ("trt", "tensorrt"), ("CudaExecutionProvider", "cuda"), ("tensorrtt", "tensorrt")],
)
def test_a_provider_that_is_called_otherwise_gets_its_name(name: str, meant: str) -> None:
    assert refused({"providers.order": [name]}) == [
        f"'{name}' is not possible: providers.order.0: did you mean '{meant}'?"
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"providers.cuda": {"device_id": -1}}, "providers.cuda.device_id"),
        ({"providers.cuda": {"device_id": "gpu0"}}, "providers.cuda.device_id"),
        ({"providers.cuda": {"arena_extend_strategy": "kNextPowerOf2"}}, "did you mean 'kNextPowerOfTwo'"),
        ({"providers.tensorrt": {"trt_builder_optimization_level": 6}}, "trt_builder_optimization_level"),
        ({"providers.tensorrt": {"fp16_enable": True}}, "did you mean 'trt_fp16_enable'"),
        ({"providers.cpu": {"use_arena": True}}, "unknown key: providers.cpu.use_arena"),
    ],
)
def test_a_device_or_an_option_that_does_not_exist_is_refused(changes: dict[str, Any], line: str) -> None:
    (problem,) = refused(changes)
    assert line in problem


@pytest.mark.parametrize(
    ("key", "value", "lacking"),
    [
        ("masks", ["ones", "right", "left", "holes"], "validation.masks one, empty"),
        ("include_maximum", False, "validation.include_maximum"),
        ("cover_embeddings", False, "validation.cover_embeddings"),
    ],
)
def test_strict_is_refused_without_what_it_promises(key: str, value: Any, lacking: str) -> None:
    strict = {"kind": "strict", "include_maximum": True, "cover_embeddings": True}
    (problem,) = refused({"validation": strict | {key: value}})
    assert f"validation=strict without {lacking}: add it, or choose validation=quick" in problem


def test_a_cpu_that_is_forbidden_is_possible_where_it_was_not_asked_for() -> None:
    entries = {"session.disable_cpu_ep_fallback": "1"}
    spec = decode(changed({"providers.order": ["cuda"], "session.config_entries": entries}), Path("/base"))
    assert spec.session.config_entries == entries


def test_libraries_are_taken_from_the_folder_of_the_build(tmp_path: Path) -> None:
    libraries = ["lib/a.so", "../b.so", "/opt/c.so"]
    session = decode(changed({"session.custom_ops": libraries}), tmp_path / "base").session
    assert session.custom_ops == (str(tmp_path / "base/lib/a.so"), str(tmp_path / "b.so"), "/opt/c.so")


@pytest.mark.parametrize(
    ("libraries", "problem"),
    [
        ("a.so", 'input should be a valid array, got "a.so": session.custom_ops: write a list: session.custom_ops=[…]'),
        ([""], 'string should have at least 1 character, got "": session.custom_ops.0'),
        (["a.so", "a.so"], "a.so and a.so have one file name: name a library once, or rename one: session.custom_ops"),
        (["x/a.so", "y/a.so"], "x/a.so and y/a.so have one file name: name a library once, or rename one: "),
    ],
)
def test_libraries_that_are_none_or_cannot_lie_in_one_folder_are_refused(libraries: object, problem: str) -> None:
    (line,) = refused({"session.custom_ops": libraries})
    assert line.startswith(problem)
