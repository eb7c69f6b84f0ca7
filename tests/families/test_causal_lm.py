"""Decoders with a cache: their packages, opened with Optimum and by the runtime, make the texts that PyTorch makes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers
from families.building import FAST, build
from families.causal_checkpoints import CONFIGS, END, POSITIONS, save_decoder
from families.opened import README_BLOCKS, answers
from optimum.exporters.onnx import onnx_export_from_model

import modelbuild
from modelbuild.config.compose import compose
from modelbuild.decoding import causal
from modelbuild.decoding.follow import greedy
from modelbuild.decoding.prompt import Prompt
from modelbuild.digest import sha256_file
from modelbuild.errors import ConfigError, ExportError, InputError, ValidationError
from modelbuild.families import causal_lm
from modelbuild.interface import Interface
from modelbuild.report import Report, read_report, write_report
from modelbuild.resolve import resolve
from modelbuild.runtime.load import load
from modelbuild.stage_slices import stage_specs
from modelbuild.stage_spec import OptimizeSpec, ValidateSpec
from modelbuild.stages import optimize, validate
from modelbuild.tasks import TASKS

TEXTS = ("the harbour", "the", "o the other one")
TASK = TASKS["text-generation"]
NEW = 32

_SHARED = """
import json
from transformers import AutoTokenizer

texts, count = json.loads(str(given["texts"])), int(given["count"])
tokenizer = AutoTokenizer.from_pretrained(folder)
assert tokenizer.pad_token is None
tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, "left"
settings = {"do_sample": False, "min_new_tokens": count, "max_new_tokens": count}
settings["pad_token_id"] = tokenizer.eos_token_id

def made(model):
    alone = [model.generate(**tokenizer(text, return_tensors="pt"), **settings)[0, -count:] for text in texts]
    together = model.generate(**tokenizer(texts, padding=True, return_tensors="pt"), **settings)[:, -count:]
    return [row.tolist() for row in alone], together.tolist()
"""
_OPTIMUM = """
from optimum.onnxruntime import ORTModelForCausalLM
from optimum.pipelines import pipeline

model = ORTModelForCausalLM.from_pretrained(folder)
assert model.can_use_cache and model.generation_config.use_cache
answers["alone"], answers["together"] = made(model)
pipe = pipeline("text-generation", model=model, tokenizer=tokenizer, accelerator="ort")
answers["pipeline"] = json.dumps(pipe(texts[0], **settings))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_optimum_and_the_runtime_make_the_texts_that_pytorch_makes(name: str, tmp_path: Path) -> None:
    source, scratch = tmp_path / "source", tmp_path / "scratch"
    scratch.mkdir()
    original = save_decoder(source, name)
    package = build(scratch, "model=path", f"model.source.path={source}", "task=text-generation", *FAST)
    given = {"texts": json.dumps(TEXTS), "count": NEW}
    names: dict[str, Any] = {"folder": source, "given": given}
    exec(_SHARED, names)
    alone, together = names["made"](original)
    assert alone == together
    assert len({tuple(row) for row in alone}) == len(TEXTS)
    found = answers(_SHARED + _OPTIMUM, package, scratch, **given)
    assert found["alone"].tolist() == found["together"].tolist() == alone
    pipe = transformers.pipeline("text-generation", model=original, tokenizer=names["tokenizer"], device="cpu")
    assert json.loads(str(found["pipeline"])) == pipe(TEXTS[0], **names["settings"])
    assert _by_the_runtime(package, scratch, names["tokenizer"]) == _unforced(original, names["tokenizer"])
    _fused_with_its_cache(scratch)
    if name == "gpt2":
        _readme_runs(package, scratch)


def _readme_runs(package: Path, scratch: Path) -> None:
    found = answers(README_BLOCKS, package, scratch, modelbuild=str(Path(modelbuild.__file__).parents[1]))
    assert found["kinds"].tolist() == [[False, False], [False, True], [True, True], [False, False]]
    printed = [str(found[f"printed.{number}"]) for number in range(len(found["kinds"]))]
    assert all(text.strip() for text in printed)
    assert "generated_text" in printed[2]


def _by_the_runtime(package: Path, scratch: Path, tokenizer: Any) -> list[list[int]]:
    """Greedy tokens by `run`, from an empty cache on."""
    model = load(package)
    facts = read_report(scratch / "export" / "report.json").facts["components"]
    interfaces = {name: Interface.of_facts(component["interface"]) for name, component in facts.items()}
    decoder = causal.decoder(lambda graph, inputs: model.run(inputs, graph=graph), interfaces)
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="np")
    found = greedy(decoder, Prompt(tokens=batch["input_ids"], mask=batch["attention_mask"]), NEW)
    tokens: list[list[int]] = found.tolist()
    return tokens


def _unforced(original: Any, tokenizer: Any) -> list[list[int]]:
    """What PyTorch makes when the end of a text is a token as others are."""
    no_end = {"eos_token_id": 1 << 30, "pad_token_id": END}
    plain = transformers.GenerationConfig(do_sample=False, max_new_tokens=NEW, **no_end)
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    made = original.generate(**batch, generation_config=plain, use_model_defaults=False)
    tokens: list[list[int]] = made[:, -NEW:].tolist()
    return tokens


def _fused_with_its_cache(scratch: Path) -> None:
    facts = read_report(scratch / "optimize" / "report.json").facts
    assert facts["attention_fusions"] == ["2 of 2 layers (com.microsoft.MultiHeadAttention x 2)"]
    assert facts["warnings"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_preset_is_strictly_right_with_every_optimization(name: str, tmp_path: Path) -> None:
    preset = f"build={name}-tiny-text-generation"
    build(tmp_path, preset)
    strict = ["validation=strict", "validation.batch_sizes=[1,3]", "validation.sequence_lengths=[2,9]"]
    for kind in ("none", "basic", "extended", "transformer"):
        report = _validated(tmp_path, tmp_path / kind, preset, f"optimization={kind}", *strict)
        checks = {check.name: check for check in report.checks}
        assert report.passed, [check.line() for check in report.failures()]
        assert {"decoding scores", "decoding padding", "decoding pieces", "decoding recompute"} <= checks.keys()
        assert checks["decoding tokens"].compared.startswith("96 greedy tokens")


def _validated(made: Path, out: Path, *overrides: str) -> Report:
    """The report of validation after another optimization of what was exported in `made`."""
    specs = stage_specs(resolve(compose(overrides, out).spec, sha256_file), {})
    inputs = {"export": made / "export", "sidecar": made / "sidecar", "optimize": out / "optimize"}
    inputs["optimize"].mkdir(parents=True)
    report = optimize.run(cast(OptimizeSpec, specs["optimize"]), inputs, inputs["optimize"])
    write_report(report, inputs["optimize"] / "report.json")
    return validate.run(cast(ValidateSpec, specs["validate"]), inputs, out)


@pytest.mark.slow
def test_a_benchmark_has_the_prompt_and_the_steps_apart(tmp_path: Path) -> None:
    overrides = ["benchmark=quick", "benchmark.batch_sizes=[1]", "benchmark.rounds=5", "benchmark.runs=1"]
    build(tmp_path, "build=gpt2-tiny-text-generation", *overrides, "benchmark.sequence_lengths=[16]")
    facts = read_report(tmp_path / "benchmark" / "benchmark.json").facts
    assert list(facts["cases"]) == ["prefill_b1_s16", "decode_b1_s16"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the smallest preset."""
    return build(tmp_path_factory.mktemp("gpt2"), "build=gpt2-tiny-text-generation")


def _inputs(batch: int, new: int, past: int, total: int | None = None) -> dict[str, Any]:
    cache = np.zeros((batch, 4, past, 8), dtype=np.float32)
    return {
        "input_ids": np.zeros((batch, new), dtype=np.int64),
        "attention_mask": np.ones((batch, past + new if total is None else total), dtype=np.int64),
        "position_ids": np.arange(past, past + new)[None].repeat(batch, axis=0),
        **{f"past_key_values.{layer}.{part}": cache for layer in range(2) for part in ("key", "value")},
    }


@pytest.mark.slow
def test_an_empty_cache_is_an_input_as_others_are(package: Path) -> None:
    outputs = load(package).run(_inputs(2, 3, 0))
    assert outputs["logits"].shape == (2, 3, 128)
    assert outputs["present.1.value"].shape == (2, 4, 3, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (_inputs(1, 1, 5, total=1), "total is 1, and past and sequence are 6 together"),
        (_inputs(1, POSITIONS + 1, 0), f"sequence is 65, and the model takes at most {POSITIONS}"),
        (_inputs(1, 2, POSITIONS - 1), f"total is 65, and the model takes at most {POSITIONS}"),
        (_inputs(1, 0, 3), "sequence is empty"),
        ({k: v for k, v in _inputs(1, 1, 0).items() if "1.value" not in k}, "missing past_key_values.1.value"),
    ],
    ids=["mask without the past", "too long", "too long with the past", "nothing new", "a layer without a cache"],
)
def test_what_does_not_fit_a_cache_is_refused_in_a_line(package: Path, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(package, verify=False).run(inputs)


@pytest.mark.parametrize(
    ("class_name", "settings", "message"),
    [
        ("BertConfig", {"intermediate_size": 16}, "BertLMHeadModel sees the tokens after a token.*is it an encoder"),
        ("BartConfig", {"d_model": 16}, "BartForCausalLM is half of a model with an encoder.*text2text-generation"),
        ("MambaConfig", {}, "MambaForCausalLM takes no attention_mask|takes no past_key_values"),
        ("GPT2Config", {"n_layer": 0}, "keeps no keys and values in the cache it is given.*a decoder with layers"),
        ("XLNetConfig", {"d_model": 16, "n_layer": 1, "n_head": 2}, "XLNetLMHeadModel takes no past_key_values"),
    ],
)
def test_a_model_whose_cache_is_otherwise_or_none_is_refused(
    class_name: str, settings: dict[str, Any], message: str
) -> None:
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    own = {} if class_name in ("GPT2Config", "BartConfig", "XLNetConfig") else sizes
    config = getattr(transformers, class_name)(**({"vocab_size": 32} | own | settings))
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ExportError, match=message):
        causal_lm.components(model, TASK)


class _OneTensor(torch.nn.Module):  # type: ignore[misc]  # torch gives its classes no types
    """A decoder that keeps keys and values of a layer in one tensor, as GPT-BigCode did once."""

    config = transformers.GPT2Config(n_layer=1)

    def forward(
        self, input_ids: Any, attention_mask: Any = None, past_key_values: Any = None, use_cache: bool = True,
        return_dict: bool = True,
    ) -> Any:  # fmt: skip
        joined = torch.zeros(1, input_ids.shape[1], 2 * 8)
        past_key_values.update(joined[:, None, :, :8], joined[:, None, :, 8:], 0)
        past_key_values.layers[0].keys = joined
        logits = torch.zeros(*input_ids.shape, 16)
        return transformers.utils.ModelOutput(logits=logits, past_key_values=past_key_values)


def test_a_cache_of_its_own_kind_is_refused_with_its_shape() -> None:
    with pytest.raises(ExportError, match=r"a cache of its own kind, with \(1, 2, 16\) and \(1, 1, 2, 8\)"):
        causal_lm.components(_OneTensor(), TASK)


def test_heads_of_the_cache_are_those_that_the_model_has_and_not_what_a_config_may_mean() -> None:
    shapes = {
        "falcon": transformers.FalconConfig(
            hidden_size=32, num_attention_heads=4, num_hidden_layers=1, vocab_size=32, multi_query=True
        ),
        "qwen3": transformers.Qwen3Config(
            hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=12, num_hidden_layers=1,
            vocab_size=32, intermediate_size=16,
        ),
    }  # fmt: skip
    found = {}
    for name, config in shapes.items():
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        (component,) = causal_lm.components(model, TASK)
        found[name] = component.interface.inputs[-1].shape
    assert found == {"falcon": ("batch", 1, "past", 8), "qwen3": ("batch", 2, "past", 12)}


@pytest.mark.slow
def test_an_end_that_is_not_in_the_vocabulary_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    save_decoder(source)
    path = source / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [END, 64]}), encoding="utf-8")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(ValidationError, match=r"json eos_token_id: 64 is not in the vocabulary of 64"):
        build(scratch, "model=path", f"model.source.path={source}", "task=text-generation", *FAST)


@pytest.mark.slow
def test_the_other_exporter_is_refused_with_what_to_choose(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"exporter=optimum does not make the graphs for text-gen.*exporter=dynamo or"
    ):
        build(tmp_path, "build=gpt2-tiny-text-generation", "exporter=optimum")


@pytest.mark.slow
def test_a_graph_that_optimum_exported_with_its_cache_can_be_brought_along(tmp_path: Path) -> None:
    original, scratch = save_decoder(tmp_path / "source", "llama"), tmp_path / "scratch"
    with warnings.catch_warnings():  # of the tracer, about code that is not ours
        warnings.simplefilter("ignore")
        onnx_export_from_model(original, tmp_path / "onnx", task="text-generation-with-past", do_validation=False)
    scratch.mkdir()
    own = ["exporter=file", f"exporter.path={tmp_path / 'onnx' / 'model.onnx'}"]
    source = ["model=path", f"model.source.path={tmp_path / 'source'}", "task=text-generation"]
    package = build(scratch, *source, *own, *FAST)
    assert load(package).manifest.graphs["model"].sums == {"total": ("past", "sequence")}


@pytest.mark.parametrize(
    ("config", "limits"),
    [
        (transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4), {}),
        (
            transformers.MptConfig(vocab_size=64, d_model=32, n_layers=2, n_heads=4, max_seq_len=16),
            {"sequence": 16, "past": 15, "total": 16},
        ),
    ],
)
def test_a_decoder_without_a_table_of_positions_has_no_limit(config: Any, limits: dict[str, int]) -> None:
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    (component,) = causal_lm.components(model, TASKS["text-generation"])
    assert component.interface.limits() == limits
