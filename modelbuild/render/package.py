"""The two documents of a package, `report.html` and `README.md`, from its manifest and its reports. Pure functions.

Names, labels and error text come from models that somebody else made, so both documents are safe by default: every
value that a template prints goes through the escape of its format (`finalize`), except what a filter returns as
`Markup`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from modelbuild.manifest import GraphRecord, Manifest
from modelbuild.providers import ort_name
from modelbuild.report import Report
from modelbuild.signature import TensorSpec
from modelbuild.tasks import TASKS

TOP_MODULES = 30
_MARKDOWN = {ord(char): f"&#{ord(char)};" for char in "\\`*[]<>|&~$"}
_OUTER_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_LITERAL = {ord(char): f"\\u{ord(char):04x}" for char in "`<>&"}
_TEXTS = {
    "question-answering": '"Where was it quiet?", "The harbour was quiet."',
    "fill-mask": 'f"The harbour was {tokenizer.mask_token}."',
}


def report_html(manifest: Manifest, validation: Report, benchmark: Report) -> str:
    """The package's report: one HTML page without scripts and without anything to fetch."""
    return _HTML.get_template("report.html.j2").render(_context(manifest, validation, benchmark))


def package_readme(manifest: Manifest, validation: Report, benchmark: Report) -> str:
    """The package's README: a Hugging Face model card in Markdown, with code that runs in the package's folder."""
    return _README.get_template("readme.md.j2").render(_context(manifest, validation, benchmark))


def clean(value: Any) -> str:
    """`value` as one line of printable text: each white space is a space, each control character is U+FFFD."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(str(value).split()))


def figure(value: Any) -> str:
    """A number for people: integers whole, others with three significant digits. None is a dash, text stays text."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return clean(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e7):
        return f"{int(value):,}"
    if not math.isfinite(value) or not 1e-3 <= abs(value) < 1e7:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def percent(share: Any) -> str:
    """A share between 0 and 1 in percent."""
    return f"{100 * share:.0f} %" if _is_number(share) else figure(share)


def size(size_bytes: int) -> str:
    """A number of bytes with a binary unit: `86.7 MiB`."""
    unit = min(int(math.log2(size_bytes)) // 10, 4) if size_bytes > 0 else 0
    return f"{figure(size_bytes / 1024**unit)} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def pretty(value: Any) -> Markup:
    """`value` as indented JSON in ASCII, escaped for HTML, line breaks kept."""
    return Markup.escape(json.dumps(value, indent=2, default=dict))


def plain(value: Any) -> str:
    """`value` as one line of text for an HTML page, where autoescape then makes it inert."""
    return value if isinstance(value, Markup) else clean(value)


def markdown(value: Any) -> str:
    """`value` as Markdown text in which nothing is markup, in a table's cell too."""
    return value if isinstance(value, Markup) else _OUTER_UNDERSCORE.sub("&#95;", clean(value).translate(_MARKDOWN))


def code(value: Any) -> Markup:
    """`value` as a Markdown code span, or as plain text when it could end the span or a table's cell."""
    text = clean(value)
    return Markup(markdown(text) if not text or set(text) & set("`|<>&\\") else f"`{text}`")


def literal(value: Any) -> Markup:
    """`value` as a literal that Python and YAML both read, in one line that cannot end a fenced block."""
    text = json.dumps(clean(value), ensure_ascii=False)
    return Markup(text.translate(_LITERAL))


def _context(manifest: Manifest, validation: Report, benchmark: Report) -> dict[str, Any]:
    facts = benchmark.facts
    return {
        "manifest": manifest,
        "origin": {key: value for key, value in manifest.source.items() if key != "files"},
        "original_files": manifest.source.get("files", {}),
        "validation": validation,
        "checks": sorted(validation.checks, key=lambda check: check.passed),
        "verdict": _verdict(manifest, validation),
        "first": _graph(*next(iter(manifest.graphs.items()))),
        "several_cases": any(_what(case) for case in facts.get("cases", {}).values()),
        "optimum_class": next((task.optimum_class for task in TASKS.values() if task.name == manifest.task), None),
        "text": Markup(_TEXTS.get(manifest.task, '"The harbour was quiet."')),
        "has_tokenizer": any(name.startswith("tokenizer") for name in manifest.files),
        "has_config": "config.json" in manifest.files,
        "custom_ops": manifest.session.get("custom_ops", []),
        "providers": [(ort_name(name), options) for name, options in manifest.providers],
        "graphs": [_graph(name, record) for name, record in manifest.graphs.items()],
        "benchmark": facts if facts.get("status") == "measured" else None,
        "conditions": _conditions(facts),
        "cases": _cases(facts),
        "top_modules": TOP_MODULES,
    }


def _verdict(manifest: Manifest, validation: Report) -> str:
    """Why the package is verified or not, in one sentence."""
    count, failed = len(validation.checks), len(validation.failures())
    if manifest.verified:
        return f"Compared with the PyTorch original on the very file in this package: {_checks(count)}, all passed."
    if failed:
        return f"Not proven equal to the PyTorch original: {failed} of {_checks(count)} failed."
    if validation.facts.get("status") == "off":
        return "Validation was turned off: nothing was compared with the PyTorch original."
    return "Not proven equal to the PyTorch original."


def _checks(count: int) -> str:
    return f"{count} check" if count == 1 else f"{count} checks"


def _graph(name: str, record: GraphRecord) -> dict[str, Any]:
    """A graph with a shape for each of its inputs, and its modules, the largest first."""
    shapes = {tensor.name: _example_shape(tensor, record.limits) for tensor in record.signature.inputs}
    return {"name": name, **vars(record), "shapes": shapes, "modules": _modules(record.hierarchy)}


def _example_shape(tensor: TensorSpec, limits: Mapping[str, int]) -> tuple[int, ...]:
    """A small shape that the tensor takes: two rows, and eight of every other axis that is not fixed."""
    rows = {"batch": 2}
    return tuple(a if isinstance(a, int) else min(rows.get(a, 8), limits.get(a, 8)) for a in tensor.shape)


def _conditions(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the benchmark was made, as labelled text, with what is known."""
    rows = [
        ("Threads", facts.get("threads")),
        ("Sequence length", facts.get("sequence_length")),
        ("Rounds × runs", f"{facts.get('rounds')} × {facts.get('runs')}" if facts.get("runs") else None),
        ("GEMM, GFLOP/s", facts.get("gemm_gflops")),
        ("Load average", facts.get("load_average")),
    ]
    rows += [(str(key), value) for group in ("host", "versions") for key, value in facts.get(group, {}).items()]
    return [(label, figure(value)) for label, value in rows if value is not None]


def _cases(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The measured cases by batch size, with the width of each side's bar in percent of the slower side."""
    found = [{"what": _what(case), **case} for case in facts.get("cases", {}).values()]
    cases = sorted(found, key=lambda case: float(case["batch"])) if not any(case["what"] for case in found) else found
    sides = ("pytorch", "onnxruntime")
    return [
        {**case, "bars": dict(zip(sides, _widths([case[side]["p50_ms"] for side in sides]), strict=True))}
        for case in cases
    ]


def _what(case: Mapping[str, Any]) -> str:
    """What was measured beside the batch size: the graph among several, and the phase of a decoder."""
    return " ".join(filter(None, (case["graph"] if case["graph"] != "model" else "", case["phase"])))


def _widths(values: list[Any]) -> list[float]:
    numbers = [float(value) if _is_number(value) else 0.0 for value in values]
    return [round(100 * number / (max(numbers) or 1.0), 1) for number in numbers]


def _modules(hierarchy: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Module paths with their nodes, the largest first, and the width of their bar in percent of the largest."""
    modules = sorted(hierarchy.get("modules", {}).items(), key=lambda item: (-item[1], item[0]))
    widths = _widths([nodes for _, nodes in modules])
    return [(path or "(the model itself)", nodes, width) for (path, nodes), width in zip(modules, widths, strict=True)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _environment(*, autoescape: bool, finalize: Callable[[Any], str]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=autoescape,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {item.__name__: item for item in (code, figure, literal, percent, pretty, size)}
    return environment


_HTML = _environment(autoescape=True, finalize=plain)
_README = _environment(autoescape=False, finalize=markdown)
