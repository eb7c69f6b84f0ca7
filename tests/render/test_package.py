"""What reports and cards of packages say, and what hostile names cannot do to them."""

from __future__ import annotations

import ast
import json
import re
import runpy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import onnx
import pytest
import yaml
from markdown_it import MarkdownIt

from modelbuild.decoding import DECODERS
from modelbuild.manifest import FileRecord, GraphRecord, Manifest, write_manifest
from modelbuild.package_files import record_files
from modelbuild.render.formats import clean, figure, literal, percent, size
from modelbuild.render.package import TOP_MODULES, package_readme, report_html
from modelbuild.render.snippets import SNIPPETS
from modelbuild.report import Check, Report, read_report, write_report
from modelbuild.signature import Signature, TensorSpec
from modelbuild.tasks import TASKS, Task, TaskName

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "'\" onmouseover=alert(1) x='",
    "before \x1b[2J\x07\x9b after",
    "| a | b | c | d |",
    "`code` ``` ```",
    "two\n\n# lines\r\n- item",
    "[link](javascript:alert(1)) ![image](x)",
    "\\| \\` *bold* _em_ ~~gone~~ $x$ &lt;b&gt; <!-- -->",
    "{{ 7 * 7 }} {% raw %}",
    "\u202eright to left\u2028\ud800",
)
TAKES_IDS = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence"))
TAKES_MASK = TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "sequence"))
GIVES_STATE = TensorSpec(name="last_hidden_state", dtype="float32", shape=("batch", "sequence", 384))
OFF = Report(stage="benchmark", facts={"status": "off"})
NOT_VALIDATED = Report(stage="validate", facts={"status": "off"})
PASSED = Report(
    stage="validate",
    checks=(
        Check(name="parity", passed=True, compared="54 cases", worst=2.1e-6, limit=8.4e-6, where="left 3x127"),
        Check(name="names", passed=True, compared="1 output"),
    ),
)
FAILED = replace(
    PASSED,
    checks=(
        *PASSED.checks,
        Check(name="finite", passed=False, compared="54 cases", worst=float("inf"), limit=0.0, where="right 2x7"),
    ),
)


def latency(p50_ms: float) -> dict[str, float]:
    return {
        "p50_ms": p50_ms,
        "p90_ms": p50_ms * 1.1,
        "p99_ms": p50_ms * 1.3,
        "mean_ms": p50_ms,
        "std_ms": 0.25,
        "throughput_per_s": 1000 / p50_ms,
    }


def measured(text: str = "faster") -> Report:
    """A benchmark of two batch sizes, with `text` where a benchmark has text."""
    cases = {
        f"b{batch}_s64": {
            "batch": batch,
            "length": 64,
            "graph": "model",
            "phase": "",
            "pytorch": latency(9.31 * batch),
            "onnxruntime": latency(3.83 * batch),
            "speedup": {"median": 2.43, "low": 2.31, "high": 2.58, "verdict": text},
            "share_of_gemm_peak": {"pytorch": 0.17, "onnxruntime": None},
        }
        for batch in (16, 1)
    }
    facts = {
        "status": "measured",
        "host": {"cpu": text},
        "threads": 2,
        "notes": [text],
        "rounds": 7,
        "runs": 3,
        "versions": {"torch": "2.13.0"},
        "devices": {"pytorch": "cpu", "onnxruntime": text},
        "gemm_gflops": 182.4,
        "graphs": {
            "model": {
                "load_ms": {"pytorch": 412.2, "onnxruntime": 181.1, "exported": 377.6},
                "load_speedup": {"median": 2.09, "low": 1.98, "high": 2.17, "verdict": text},
                "peak_memory_mib": {"pytorch": 812.3, "onnxruntime": 301.7},
            }
        },
        "sessions": {
            "preset": text,
            "reason": text,
            "disturbed": False,
            "presets": {"edge": {"p50_ms": {}, "mean_ms": 7.13, "ratio": {"median": 1.86, "low": 1.8, "high": 1.91}}},
        },
        "cases": cases,
    }
    return Report(stage="benchmark", facts=facts)


def compiled() -> Report:
    """The same with what torch.compile made of the first case, and not of the second."""
    report = measured()
    report.facts["cases"]["b1_s64"] |= {
        "compiled": latency(6.17),
        "compile_s": 12.41,
        "speedup_over_compiled": {"median": 1.61, "low": 1.55, "high": 1.66, "verdict": "faster"},
        "share_of_gemm_peak": {"pytorch": 0.17, "compiled": 0.26, "onnxruntime": None},
    }
    return report


def graph(**changes: Any) -> GraphRecord:
    values: dict[str, Any] = {
        "file": "model.onnx",
        "signature": Signature(inputs=(TAKES_IDS, TAKES_MASK), outputs=(GIVES_STATE,)),
        "limits": {"sequence": 512},
        "may_be_empty": (),
        "sums": {},
        "opsets": {"": 20, "com.microsoft": 1},
        "ir_version": 10,
        "oldest_onnxruntime": "1.18",
        "hierarchy": {
            "tagged_share": 0.97,
            "tagged_nodes": 97,
            "nodes": 100,
            "modules": {"": 3, "encoder.layer.0": 94},
        },
    }
    return GraphRecord(**values | changes)


def manifest(**changes: Any) -> Manifest:
    files = {
        "model.onnx": FileRecord(size_bytes=90_872_832, sha256="ab" * 32),
        "config.json": FileRecord(size_bytes=612, sha256="cd" * 32),
        "tokenizer.json": FileRecord(size_bytes=466_247, sha256="ef" * 32),
    }
    values: dict[str, Any] = {
        "name": "minilm",
        "task": "feature-extraction",
        "verified": True,
        "graphs": {"model": graph()},
        "providers": (("cpu", {}),),
        "allow_fallback": False,
        "session": {"execution_mode": "sequential", "enable_mem_pattern": True, "config_entries": {}},
        "source": {"kind": "hub", "repository": "org/minilm", "revision": "0" * 40},
        "build": {"model": {"name": "minilm"}},
        "tools": {"torch": "2.13.0"},
        "validation": {},
        "benchmark": {},
        "files": files,
    }
    return Manifest(**values | changes)


def hostile(text: str, *, several: bool = False) -> tuple[Manifest, Report, Report]:
    """A package with `text` wherever a model, a host or an error could put text."""
    tensor = TensorSpec(name=text, dtype="int64", shape=(text, 3))
    check = Check(name=text, passed=False, compared=text, worst=1.0, limit=0.5, where=text)
    changed = manifest(
        name=text,
        verified=False,
        graphs={
            text: graph(
                file=text,
                signature=Signature(inputs=(tensor,), outputs=(tensor,)),
                limits={text: 4},
                opsets={"": 20, text: 1},
                oldest_onnxruntime=text,
                hierarchy={"tagged_share": text, "tagged_nodes": text, "nodes": text, "modules": {text: 2}},
            ),
            **({f"{text}2": graph(file=text, limits={text: 4})} if several else {}),
        },
        providers=((text, {text: text}),),
        session={text: text, "config_entries": {text: text}},
        source={"kind": "hub", "repository": text, text: text, "config": {text: text}, "files": {text: text}},
        build={text: text},
        tools={text: text},
        files={text: FileRecord(size_bytes=1, sha256=text), "config.json": FileRecord(size_bytes=1, sha256=text)},
    )
    return changed, Report(stage="validate", checks=(check,), facts={"status": text, text: text}), measured(text)


class Page(HTMLParser):
    """The tags and attributes of a page, and its text outside of `<pre>`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.inside_pre = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.inside_pre = self.inside_pre or tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self.inside_pre = self.inside_pre and tag != "pre"

    def handle_data(self, data: str) -> None:
        self.text += "" if self.inside_pre else data

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")


def rendered(readme: str) -> Page:
    """The README as a reader sees it, with raw HTML let through, so that any that got in is seen."""
    _, _, body = readme.removeprefix("---\n").partition("\n---\n")
    return Page(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body))


def front_matter(readme: str) -> dict[str, Any]:
    head, _, _ = readme.removeprefix("---\n").partition("\n---\n")
    data: dict[str, Any] = yaml.safe_load(head)
    return data


def code_blocks(readme: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)


def test_report_holds_the_facts() -> None:
    text = Page(report_html(manifest(), PASSED, measured())).text
    for fact in ("minilm", "feature-extraction", "org/minilm", "ai.onnx 20", "com.microsoft 1", "1.18 or newer"):
        assert fact in text
    for fact in ("CPUExecutionProvider", "execution_mode = sequential", "enable_mem_pattern = true", "refused"):
        assert fact in text
    for fact in ("batch × sequence × 384", "sequence ≤ 512", "86.7 MiB", "abababababab…", "97 of 100 nodes (97 %)"):
        assert fact in text
    for fact in ("2.10e-06", "8.40e-06", "left 3x127", "54 cases", "encoder.layer.0", "(the model itself)"):
        assert fact in text
    for fact in ("9.31", "3.83", "2.43 ×", "2.31 to 2.58", "faster", "17 %", "182", "412", "302", "7 × 3", "2.13.0"):
        assert fact in text


def test_report_is_one_page_without_scripts_or_anything_to_fetch() -> None:
    html = report_html(manifest(), PASSED, measured())
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(page.tags)
    assert not {"src", "href", "action"} & {name for name, _ in page.attributes}
    assert "url(" not in html
    assert "@import" not in html


def test_report_gives_the_whole_digest_as_a_title() -> None:
    package = manifest(source={"kind": "path", "files": {"model.safetensors": "12" * 32}})
    page = Page(report_html(package, PASSED, OFF))
    assert ("title", "ab" * 32) in page.attributes
    assert ("title", "12" * 32) in page.attributes
    assert "model.safetensors" in page.text


def test_documents_say_verified_when_the_manifest_does() -> None:
    for text in (Page(report_html(manifest(), PASSED, OFF)).text, package_readme(manifest(), PASSED, OFF)):
        assert "VERIFIED" in text
        assert "UNVERIFIED" not in text
        assert "2 checks, all passed" in text


@pytest.mark.parametrize(
    ("validation", "reason"),
    [
        (NOT_VALIDATED, "Validation was turned off"),
        (FAILED, "1 of 3 checks failed"),
        (PASSED, "Not proven equal to the PyTorch original."),
    ],
)
def test_documents_say_unverified_and_why(validation: Report, reason: str) -> None:
    package = manifest(verified=False)
    for text in (report_html(package, validation, OFF), package_readme(package, validation, OFF)):
        assert re.findall(r"\b(?:UN)?VERIFIED\b", text) == ["UNVERIFIED"]
        assert reason in text


def test_documents_show_a_failed_check_first() -> None:
    text = Page(report_html(manifest(verified=False), FAILED, OFF)).text
    assert "FAILED" in text
    assert text.index("finite") < text.index("parity")
    assert "| finite | FAILED | inf | 0 | right 2x7 | 54 cases |" in package_readme(manifest(), FAILED, OFF)


def test_documents_say_that_random_weights_are_not_a_trained_model() -> None:
    package = manifest(source={"kind": "init", "architecture": "BertModel", "seed": "0"})
    for render in (report_html, package_readme):
        assert "not a trained model" in render(package, PASSED, OFF)
        assert "not a trained model" not in render(manifest(), PASSED, OFF)


def test_documents_say_how_accurate_a_reduced_precision_is_and_nothing_of_another() -> None:
    line = "int8: worst cosine 0.9931 of 200 sentences, mean cosine 0.9987, rank 0.9952"
    judged = Report(stage="validate", facts={"status": "strict", "accuracy": [line]})
    for document in (report_html, package_readme):
        assert f"Accuracy beside PyTorch in fp32, {line}." in document(manifest(), judged, OFF)
        assert "Accuracy beside" not in document(manifest(), NOT_VALIDATED, OFF)


def test_documents_say_when_nothing_was_measured() -> None:
    for render in (report_html, package_readme):
        assert "Not measured" in render(manifest(), PASSED, OFF)
        assert "Not measured" not in render(manifest(), PASSED, measured())


def test_documents_say_how_it_loads_and_which_session_suits_the_machine() -> None:
    page, readme = (
        Page(report_html(manifest(), PASSED, measured())).text,
        package_readme(manifest(), PASSED, measured()),
    )
    for fact in ("181", "378", "2.09 ×", "1.98 to 2.17"):
        assert fact in page
        assert fact in readme
    assert "7.13" in page
    assert "preset that suits that machine best is `faster`" in readme
    assert "running meanwhile" not in page + readme
    busy = measured()
    busy.facts["sessions"]["disturbed"] = True
    for render in (report_html, package_readme):
        assert "Something else was running meanwhile" in render(manifest(), PASSED, busy)


def test_documents_show_what_was_compiled_where_it_was() -> None:
    page, readme = (
        Page(report_html(manifest(), PASSED, compiled())).text,
        package_readme(manifest(), PASSED, compiled()),
    )
    for fact in ("torch.compile", "6.17"):
        assert fact in page
        assert fact in readme
    for fact in ("1.61 ×", "12.4", "26 %"):
        assert fact in page
    assert "| 16 | 64 | 149 |  | 61.3 |" in readme
    for render in (report_html, package_readme):
        assert "torch.compile" not in render(manifest(), PASSED, measured())


def test_benchmark_is_in_the_order_of_the_batch_sizes() -> None:
    assert re.findall(r"^\| (\d+) \| 64 \|", package_readme(manifest(), PASSED, measured()), re.MULTILINE) == [
        "1",
        "16",
    ]


def test_report_without_modules_says_so() -> None:
    for hierarchy in ({}, {"tagged_share": 0.0, "tagged_nodes": 0, "nodes": 9, "modules": {}}):
        assert "do not say which PyTorch module" in report_html(
            manifest(graphs={"model": graph(hierarchy=hierarchy)}), PASSED, OFF
        )


def test_report_counts_the_modules_that_it_leaves_out() -> None:
    modules = {f"layer.{index}": 100 - index for index in range(TOP_MODULES + 2)}
    package = manifest(graphs={"model": graph(hierarchy={"modules": modules})})
    text = Page(report_html(package, PASSED, OFF)).text
    assert f"layer.{TOP_MODULES - 1}" in text
    assert f"layer.{TOP_MODULES}" not in text
    assert "And 2 more modules with 139 nodes." in text


def test_report_shows_when_other_providers_are_allowed() -> None:
    assert "ALLOWED" in report_html(manifest(allow_fallback=True), PASSED, OFF)


def test_documents_read_reports_back_from_disk_with_numbers_that_json_has_not(tmp_path: Path) -> None:
    broken = measured()
    broken.facts["cases"]["b1_s64"]["pytorch"] = dict.fromkeys(latency(1.0), float("nan"))
    write_report(FAILED, tmp_path / "validate.json")
    write_report(broken, tmp_path / "benchmark.json")
    reports = read_report(tmp_path / "validate.json"), read_report(tmp_path / "benchmark.json")
    for render in (report_html, package_readme):
        assert "nan" in render(manifest(verified=False), *reports)
    assert "inf" in report_html(manifest(verified=False), *reports)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_in_the_report(text: str) -> None:
    harmless, page = Page(report_html(*hostile("wholly harmless"))), Page(report_html(*hostile(text)))
    assert page.tags == harmless.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in harmless.attributes]
    assert page.text.count(clean(text)) == harmless.text.count("wholly harmless") > 20


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_in_the_readme(text: str) -> None:
    readme = package_readme(*hostile(text))
    harmless, page = rendered(package_readme(*hostile("wholly harmless"))), rendered(readme)
    assert [tag for tag in page.tags if tag != "code"] == [tag for tag in harmless.tags if tag != "code"]
    assert page.attributes == harmless.attributes
    assert page.text.count(clean(text)) == harmless.text.count("wholly harmless") > 8
    assert "<" not in readme


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_leaves_no_control_characters(text: str) -> None:
    for render in (report_html, package_readme):
        document = render(*hostile(text))
        assert all(char == "\n" or char.isprintable() for char in document)
        document.encode("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_leaves_front_matter_and_code_whole(text: str) -> None:
    readme = package_readme(*hostile(text))
    assert set(front_matter(readme)) == {"pipeline_tag", "tags", "license", "base_model"}
    for document in (readme, package_readme(*hostile(text, several=True))):
        blocks = code_blocks(document)
        assert len(blocks) == 3
        for block in blocks:
            compile(block, "README.md", "exec")


def test_templates_refuse_a_fact_that_is_missing() -> None:
    incomplete = measured()
    del incomplete.facts["cases"]["b1_s64"]["onnxruntime"]["p90_ms"]
    with pytest.raises(jinja2.UndefinedError):
        report_html(manifest(), PASSED, incomplete)


def test_readme_shows_each_way_with_the_inputs_of_the_model() -> None:
    runtime, optimum, pipe, plain = code_blocks(package_readme(manifest(), PASSED, OFF))
    assert "from modelbuild.runtime import load" in runtime
    assert "ORTModelForFeatureExtraction.from_pretrained(" in optimum
    assert "AutoTokenizer" in optimum
    assert "pipeline(" in pipe
    assert 'providers = ["CPUExecutionProvider"]' in plain
    for block in (runtime, plain):
        assert '"input_ids": np.ones((2, 8), dtype="int64")' in block
        assert '"attention_mask": np.ones((2, 8), dtype="int64")' in block


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.optimum_class], ids=lambda task: task.name)
def test_readme_uses_the_class_of_the_task(task: Task) -> None:
    blocks = code_blocks(package_readme(manifest(task=task.name), PASSED, OFF))
    assert f"model = {task.optimum_class}.from_pretrained(" in blocks[1]
    for block in blocks:
        compile(block, "README.md", "exec")


def full(task: Task, *, several: bool, library: bool, lacking: str = "") -> Manifest:
    """A package of `task` with all that goes with it, but for files whose name has `lacking` in it."""
    names = ["config.json", "tokenizer.json", "preprocessor_config.json", "tokenizer/tokenizer_config.json"]
    names += ["model_index.json"] if task.family == "diffusion" else []
    return manifest(
        task=task.name,
        graphs={"first": graph(), "second": graph()} if several else {"model": graph()},
        session={"custom_ops": ["custom_ops/libmine.so"]} if library else {},
        files={name: FileRecord(size_bytes=1, sha256="ab" * 32) for name in names if not (lacking and lacking in name)},
    )


@pytest.mark.parametrize("library", [False, True], ids=["plain", "library"])
@pytest.mark.parametrize("several", [False, True], ids=["one graph", "several graphs"])
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_readme_has_no_block_that_python_cannot_read(task: Task, several: bool, library: bool) -> None:
    for lacking in ("", "tokenizer", "config.json"):
        readme = package_readme(full(task, several=several, library=library, lacking=lacking), PASSED, OFF)
        blocks = code_blocks(readme)
        assert len(blocks) >= 2
        for block in blocks:
            compile(block, "README.md", "exec")
            registered = block.count("register_custom_ops_library")
            assert registered == (library and "modelbuild.runtime" not in block)
        assert ("Optimum has no class for it." in readme) is (not task.optimum_class)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_readme_has_the_tag_of_a_task_that_others_know(task: Task) -> None:
    tag = front_matter(package_readme(full(task, several=False, library=False), PASSED, OFF)).get("pipeline_tag")
    assert tag == (None if task.name == "custom" else task.name)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.family in DECODERS])
def test_readme_of_a_decoder_without_its_tokenizer_gives_it_no_arrays_of_ones(name: TaskName) -> None:
    optimum = code_blocks(package_readme(full(TASKS[name], several=False, library=False, lacking="token"), PASSED, OFF))
    assert "give model.generate tensors" in optimum[1]
    assert "**{" not in optimum[1]


def test_readme_gives_a_module_of_ones_own_the_inputs_that_the_package_carries() -> None:
    for block in code_blocks(package_readme(manifest(task="custom"), PASSED, OFF)):
        assert 'np.load("golden.npz")' in block
        assert "ones" not in block


@pytest.mark.parametrize("name", SNIPPETS)
def test_readme_shows_a_pipeline_for_every_task_that_has_one(name: TaskName) -> None:
    assert bool(SNIPPETS[name].asked) == (TASKS[name].pipeline is not None)


def test_readme_for_optimum_without_tokenizer_gives_arrays_and_without_config_says_why_not() -> None:
    without_tokenizer = {name: record for name, record in manifest().files.items() if name != "tokenizer.json"}
    _, optimum, _ = code_blocks(package_readme(manifest(files=without_tokenizer), PASSED, OFF))
    assert '"input_ids": torch.ones((2, 8), dtype=torch.int64)' in optimum
    readme = package_readme(manifest(files={}), PASSED, OFF)
    assert len(code_blocks(readme)) == 2
    assert "has no `config.json`, which Optimum needs" in readme


def test_readme_inputs_stay_within_limits_and_fixed_sizes() -> None:
    pixels = TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, "sequence"))
    signature = Signature(inputs=(pixels,), outputs=(GIVES_STATE,))
    package = manifest(graphs={"model": graph(signature=signature, limits={"sequence": 5, "batch": 1})})
    assert 'np.ones((1, 3, 5), dtype="float32")' in package_readme(package, PASSED, OFF)


def test_readme_inputs_have_the_sizes_of_the_golden_inputs_where_they_are_known() -> None:
    sounds = TensorSpec(name="sounds", dtype="float32", shape=("batch", "samples"))
    record = graph(signature=Signature(inputs=(sounds,), outputs=(GIVES_STATE,)), sizes={"batch": 2, "samples": 16000})
    assert "np.ones((2, 16000)" in package_readme(manifest(graphs={"model": record}), PASSED, OFF)


def test_readme_inputs_are_values_that_a_model_with_one_type_of_tokens_takes() -> None:
    types = replace(TAKES_IDS, name="token_type_ids")
    package = manifest(
        graphs={"model": graph(signature=Signature(inputs=(TAKES_IDS, types), outputs=(GIVES_STATE,)))},
        files={"config.json": FileRecord(size_bytes=1, sha256="ab" * 32)},
    )
    for module, block in zip(("np", "torch", "np"), code_blocks(package_readme(package, PASSED, OFF)), strict=True):
        assert f'"input_ids": {module}.ones((2, 8)' in block
        assert f'"token_type_ids": {module}.zeros((2, 8)' in block


def test_readme_names_the_file_for_optimum_only_where_it_has_an_unusual_name() -> None:
    assert 'from_pretrained(".", provider=' in package_readme(manifest(), PASSED, OFF)
    unusual = package_readme(manifest(graphs={"model": graph(file="decoder.onnx")}), PASSED, OFF)
    assert 'from_pretrained(".", file_name="decoder.onnx", provider=' in unusual


def encoder_and_decoder() -> Manifest:
    """Two graphs, of which the second is newer, has a cache, and modules of its own."""
    cache = TensorSpec(name="past_key_values.0.key", dtype="float32", shape=("batch", 2, "past", 8))
    decoder = graph(
        file="decoder_model.onnx",
        signature=Signature(inputs=(TAKES_IDS, cache), outputs=(replace(GIVES_STATE, name="logits"),)),
        limits={"past": 64},
        may_be_empty=("past",),
        opsets={"": 21},
        ir_version=11,
        oldest_onnxruntime="1.9",
        hierarchy={"tagged_share": 1.0, "tagged_nodes": 7, "nodes": 7, "modules": {"decoder.block.0": 7}},
    )
    return manifest(graphs={"encoder": graph(file="encoder_model.onnx"), "decoder": decoder})


def test_report_has_every_graph_with_its_file_signature_and_modules() -> None:
    text = Page(report_html(encoder_and_decoder(), PASSED, OFF)).text
    for fact in ("encoder_model.onnx", "decoder_model.onnx", "batch × 2 × past × 8", "past ≤ 64"):
        assert text.count(fact) == 1
    assert text.index("encoder_model.onnx") < text.index("decoder_model.onnx")
    for fact in ("97 of 100 nodes (97 %)", "7 of 7 nodes (100 %)", "encoder.layer.0", "decoder.block.0"):
        assert fact in text


def test_readme_has_the_signature_of_every_graph_and_what_the_newest_of_them_needs() -> None:
    readme = package_readme(encoder_and_decoder(), PASSED, OFF)
    page = rendered(readme)
    assert page.tags.count("h3") == 2 + 3
    assert "2 graphs, opset ai.onnx 21, opset com.microsoft 1, IR version 11, ONNX Runtime 1.18 or newer" in page.text
    assert "| input | `past_key_values.0.key` | float32 | batch × 2 × past ≤ 64 × 8 |" in readme
    assert readme.index("### `encoder`") < readme.index("### `decoder`")


def test_readme_runs_several_graphs_with_the_inputs_that_the_package_carries() -> None:
    runtime, optimum, _, plain = code_blocks(package_readme(encoder_and_decoder(), PASSED, OFF))
    assert "model.run(inputs, graph=name)" in runtime
    assert "file_name" not in optimum
    assert '"encoder": "encoder_model.onnx",\n    "decoder": "decoder_model.onnx",' in plain
    for block in (runtime, plain):
        assert 'np.load("golden.npz")' in block
        compile(block, "README.md", "exec")


def test_readme_takes_many_inputs_from_those_that_the_package_carries() -> None:
    inputs = tuple(replace(TAKES_IDS, name=f"past_key_values.{number}") for number in range(9))
    package = manifest(graphs={"model": graph(signature=Signature(inputs=inputs, outputs=(GIVES_STATE,)))})
    assert "past_key_values.8" not in "".join(code_blocks(package_readme(package, PASSED, OFF)))


def test_documents_say_which_graph_and_phase_was_measured_where_there_are_several() -> None:
    benchmark = measured()
    for case, phase in zip(benchmark.facts["cases"].values(), ("prefill", "decode"), strict=True):
        case |= {"graph": "decoder", "phase": phase}
    figures = benchmark.facts["graphs"]["model"]
    benchmark = replace(benchmark, facts={**benchmark.facts, "graphs": {"encoder": figures, "decoder": figures}})
    readme = package_readme(encoder_and_decoder(), PASSED, benchmark)
    assert "| decoder prefill | 16 |" in readme
    text = Page(report_html(encoder_and_decoder(), PASSED, benchmark)).text
    for fact in ("decoder decode, batch 1", "encoder PyTorch", "decoder ONNX Runtime"):
        assert fact in text


def test_readme_names_its_source_and_that_the_license_is_not_known() -> None:
    readme = package_readme(manifest(), PASSED, OFF)
    assert front_matter(readme) == {
        "pipeline_tag": "feature-extraction",
        "tags": ["onnx", "onnxruntime", "modelbuild"],
        "license": "unknown",
        "base_model": "org/minilm",
    }
    assert "| repository | org/minilm |" in readme
    assert "The license is that of the original model. modelbuild does not know it" in readme


def test_readme_shows_what_an_initialized_model_is_made_of() -> None:
    source = {"kind": "init", "architecture": "BertModel", "config": {"hidden_size": 32}, "files": {}}
    assert "| config: hidden_size | 32 |" in package_readme(manifest(source=source), PASSED, OFF)


@pytest.mark.parametrize("task", ["feature-extraction", "custom"])
@pytest.mark.parametrize("names", [("model",), ("encoder", "decoder")])
def test_readme_code_runs_in_the_folder_of_a_package(
    names: tuple[str, ...], task: TaskName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, script = tmp_path / "package", tmp_path / "block.py"
    folder.mkdir()
    package = write_package(folder, names)
    monkeypatch.chdir(folder)
    runtime, plain = code_blocks(package_readme(replace(package, task=task), PASSED, OFF))
    for block in (runtime, plain):
        script.write_text(block)
        assert len(runpy.run_path(str(script))["outputs"]) == 1


def test_readme_says_that_libraries_are_native_code_and_registers_them_wherever_the_model_is_opened() -> None:
    session = {"custom_ops": ["custom_ops/libmine.so", "custom_ops/libyours.so"]}
    readme = package_readme(manifest(session=session), PASSED, OFF)
    assert "**Native code.** It has operators of its own, which are in" in readme
    runtime, optimum, pipe, plain = code_blocks(readme)
    assert "custom_ops" not in runtime
    for block in (optimum, pipe, plain):
        compile(block, "README.md", "exec")
        assert "import onnxruntime as ort" in block
        assert 'options.register_custom_ops_library("custom_ops/libmine.so")\noptions.register' in block
    assert "session_options=options" in optimum
    assert "session_options=options" in pipe
    assert 'ort.InferenceSession("model.onnx", options, providers=' in plain
    assert "options" not in "".join(code_blocks(package_readme(manifest(), PASSED, OFF)))


def write_package(folder: Path, names: tuple[str, ...]) -> Manifest:
    """A package of graphs of one Identity node, with the golden inputs that `load` replays."""
    spec = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence"))
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, list(spec.shape))
        for name in ("input_ids", "y")
    ]
    made = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["input_ids"], ["y"])], "g", values[:1], values[1:]
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    golden: dict[str, Any] = {}
    for name in names:
        onnx.save(model, folder / f"{name}.onnx")
        keys = (f"{name}/input.input_ids", f"{name}/output.y")
        golden |= dict.fromkeys(keys, np.ones((1, 3), dtype=np.int64))
    np.savez(folder / "golden.npz", **golden)
    signature = Signature(inputs=(spec,), outputs=(replace(spec, name="y"),))
    package = manifest(
        graphs={name: graph(file=f"{name}.onnx", signature=signature, opsets={"": 17}) for name in names},
        session={},
        files=record_files(folder),
    )
    write_manifest(package, folder)
    return package


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (22_713_216, "22,713,216"),
        (0.0123456, "0.0123"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (2.1e-6, "2.10e-06"),
        (-3e12, "-3.00e+12"),
        (float("nan"), "nan"),
        ("inf", "inf"),
    ],
)
def test_figure_is_short_and_readable(value: float | str | None, text: str) -> None:
    assert figure(value) == text


def test_size_and_percent_are_for_people() -> None:
    assert [size(n) for n in (0, 1, 1023, 1024, 90_872_832)] == ["0 B", "1 B", "1,023 B", "1 KiB", "86.7 MiB"]
    assert (percent(0.973), percent(None), percent("nan")) == ("97 %", "–", "nan")


@pytest.mark.parametrize("text", ['a"b\\c', "ü 😀", "```", "</script>"])
def test_literal_reads_back_in_python_and_yaml(text: str) -> None:
    assert json.loads(literal(text)) == yaml.safe_load(literal(text)) == text
    assert ast.literal_eval(literal(text)) == text
