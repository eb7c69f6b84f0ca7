"""The two documents of a package, `report.html` and `README.md`, from its manifest and its reports. Pure functions.

Names, labels and error text come from models that somebody else made, so both documents are safe by default: every
value that a template prints goes through the escape of its format (`finalize`), except what a filter returns as
`Markup`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from modelbuild.decoding import DECODERS
from modelbuild.manifest import GraphRecord, Manifest
from modelbuild.providers import ort_name
from modelbuild.render.formats import code, figure, is_number, literal, markdown, percent, plain, pretty, size
from modelbuild.render.optimization import baselines, lines, tried
from modelbuild.render.snippets import SNIPPETS, preprocessors_in, task_named
from modelbuild.report import Report
from modelbuild.signature import TensorSpec

TOP_MODULES = 30
SIDES = {"pytorch": "PyTorch", "compiled": "torch.compile", "onnxruntime": "ONNX Runtime"}
# More inputs than these are taken from the package's golden inputs and not written out.
_WRITTEN_OUT = 8


def report_html(manifest: Manifest, validation: Report, benchmark: Report) -> str:
    """The package's report: one HTML page without scripts and without anything to fetch."""
    return _HTML.get_template("report.html.j2").render(_context(manifest, validation, benchmark))


def package_readme(manifest: Manifest, validation: Report, benchmark: Report) -> str:
    """The package's README: a Hugging Face model card in Markdown, with code that runs in the package's folder."""
    return _README.get_template("readme.md.j2").render(_context(manifest, validation, benchmark))


def _context(manifest: Manifest, validation: Report, benchmark: Report) -> dict[str, Any]:
    facts = benchmark.facts
    return {
        "manifest": manifest,
        "origin": {key: value for key, value in manifest.source.items() if key != "files"},
        "original_files": manifest.source.get("files", {}),
        "validation": validation,
        "checks": sorted(validation.checks, key=lambda check: check.passed),
        "verdict": _verdict(manifest, validation),
        "level": validation.facts.get("status"),
        "accuracy": validation.facts.get("accuracy", []),
        "written_out": _written_out(manifest),
        **_needed(list(manifest.graphs.values())),
        "several_cases": any(_what(case) for case in facts.get("cases", {}).values()),
        "optimum": _optimum(manifest),
        "has_config": bool({"config.json", "model_index.json"} & manifest.files.keys()),
        "custom_ops": manifest.session.get("custom_ops", []),
        "registered": _registered(manifest.session.get("custom_ops", [])),
        "providers": [(ort_name(name), options) for name, options in manifest.providers],
        "graphs": [_graph(name, record) for name, record in manifest.graphs.items()],
        "benchmark": facts if facts.get("status") == "measured" else None,
        "conditions": _conditions(facts),
        "cases": _cases(facts),
        "with_compiled": any("compiled" in case for case in facts.get("cases", {}).values()),
        "loaded": facts.get("graphs", {}),
        "sides": SIDES,
        "top_modules": TOP_MODULES,
        "optimized": lines(manifest.optimization),
        "tried": tried(manifest.optimization),
        "baselines": ", ".join(dict.fromkeys(baselines(manifest.optimization))),
    }


def _written_out(manifest: Manifest) -> dict[str, Any] | None:
    """The only graph, where its inputs are few enough to be written out, and ones are inputs that it takes: nobody
    knows that of a module of the user's own, which may be given anything.
    """
    (name, record), *others = manifest.graphs.items()
    few, known = len(record.signature.inputs) <= _WRITTEN_OUT, manifest.task != "custom"
    return _graph(name, record) if few and known and not others else None


def _needed(graphs: list[GraphRecord]) -> dict[str, Any]:
    """What opens all of the graphs: the newest of everything that one of them needs. `own_file` is what Optimum must be
    told of a graph that is alone and does not have the usual name.
    """
    opsets: dict[str, int] = {}
    for domain, version in (item for graph in graphs for item in graph.opsets.items()):
        opsets[domain] = max(version, opsets.get(domain, 0))
    unusual = len(graphs) == 1 and graphs[0].file != "model.onnx"
    releases = [graph.oldest_onnxruntime for graph in graphs]
    return {
        "opsets": opsets,
        "ir_version": max(graph.ir_version for graph in graphs),
        "oldest_onnxruntime": max(releases, key=lambda release: [int(part) for part in re.findall(r"\d+", release)]),
        "own_file": Markup(f"file_name={literal(graphs[0].file)}, " if unusual else ""),
    }


def _optimum(manifest: Manifest) -> dict[str, Any] | None:
    """What Optimum opens the package with, and what is shown of it; None for a task that is not known here."""
    task = task_named(manifest.task)
    if task is None:
        return None
    shown = SNIPPETS.get(task.name)
    found = preprocessors_in(task, manifest.files) if shown else None
    generates = task.family in DECODERS
    return {
        "class": task.optimum_class,
        "preprocessors": found or (),
        "imports": shown.imports if shown and found is not None else (),
        "code": Markup(shown.code) if shown and found is not None else None,
        "generates": generates,
        "arrays": found is None and not generates and _written_out(manifest) is not None,
        "pipeline": task.pipeline if shown and found is not None and shown.asked else None,
        "asked": Markup(shown.asked) if shown else None,
    }


def _registered(libraries: Sequence[str]) -> Markup:
    """Lines that register libraries of operators with ONNX Runtime."""
    lines = [f"options.register_custom_ops_library({literal(name)})" for name in libraries]
    return Markup("\n".join(["options = ort.SessionOptions()", *lines]))


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
    """A graph with a shape and a filling for each of its inputs, and its modules, the largest first."""
    shapes = {tensor.name: _example_shape(tensor, record) for tensor in record.signature.inputs}
    # Many models know one type of tokens, which is 0.
    fillings = {name: "zeros" if name == "token_type_ids" else "ones" for name in shapes}
    return {
        "name": name, **vars(record), "shapes": shapes, "fillings": fillings, "modules": _modules(record.hierarchy),
    }  # fmt: skip


def _example_shape(tensor: TensorSpec, record: GraphRecord) -> tuple[int, ...]:
    """A shape that the tensor takes: that of the golden inputs, and where that is not known, two rows and eight of
    every other axis that is not fixed.
    """
    small = {"batch": 2}
    guessed = {axis: min(small.get(axis, 8), record.limits.get(axis, 8)) for axis in tensor.symbolic_axes()}
    sizes = guessed | dict(record.sizes)
    return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in tensor.shape)


def _conditions(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the benchmark was made, as labelled text, with what is known."""
    rows = [
        ("Threads", facts.get("threads")),
        ("Rounds × runs", f"{facts.get('rounds')} × {facts.get('runs')}" if facts.get("runs") else None),
        ("GEMM, GFLOP/s", facts.get("gemm_gflops")),
        ("Load average", facts.get("load_average")),
    ]
    rows += [(str(key), value) for group in ("host", "versions") for key, value in facts.get(group, {}).items()]
    return [(label, figure(value)) for label, value in rows if value is not None]


def _cases(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The measured cases by length and batch size, each with what it is called and the sides that were measured; a side
    has a name, its figures, and the width of its bar in percent of the slowest.
    """
    found = [{"what": _what(case), **case} for case in facts.get("cases", {}).values()]
    if not any(case["what"] for case in found):
        found.sort(key=lambda case: (_number(case["length"]), _number(case["batch"])))
    return [{**case, "title": _title(case), "sides": _sides(case)} for case in found]


def _sides(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = {key: name for key, name in SIDES.items() if key in case}
    widths = _widths([case[key]["p50_ms"] for key in names])
    return [
        {"key": key, "name": name, "took": case[key], "share": case["share_of_gemm_peak"][key], "width": width}
        for (key, name), width in zip(names.items(), widths, strict=True)
    ]


def _number(value: Any) -> float:
    return float(value) if is_number(value) else 0.0


def _title(case: Mapping[str, Any]) -> str:
    batch = f"{case['what']}, batch" if case["what"] else "Batch"
    return f"{batch} {case['batch']}" + (f", length {case['length']}" if case["length"] else "")


def _what(case: Mapping[str, Any]) -> str:
    """What was measured beside the batch size: the graph among several, and the phase of a decoder."""
    return " ".join(filter(None, (case["graph"] if case["graph"] != "model" else "", case["phase"])))


def _widths(values: list[Any]) -> list[float]:
    numbers = [_number(value) for value in values]
    return [round(100 * number / (max(numbers) or 1.0), 1) for number in numbers]


def _modules(hierarchy: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Module paths with their nodes, the largest first, and the width of their bar in percent of the largest."""
    modules = sorted(hierarchy.get("modules", {}).items(), key=lambda item: (-item[1], item[0]))
    widths = _widths([nodes for _, nodes in modules])
    return [(path or "(the model itself)", nodes, width) for (path, nodes), width in zip(modules, widths, strict=True)]


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
