"""What the README says of the results: two tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tables import Results, table

_SIDES = ("Optimum", "Optimum O2", "Olive", "modelbuild", "modelbuild int8")
_INT8, _FP32 = "int8 ", "modelbuild fp32"
_STAGES, _IN_COMMAND = "modelbuild export + optimize", "modelbuild export + optimize, in the command"


def summary(results: Results) -> str:
    """Speeds by model and shape, and what builds cost; nothing of a result that there is not."""
    parts = [_speeds(results["artifact_speed"]["models"])] if "artifact_speed" in results else []
    costs = list(_costs(results))
    return "\n\n".join([*parts, *([table([["", ""], *costs])] if costs else [])])


def _speeds(models: Mapping[str, Any]) -> str:
    """How many times faster than PyTorch eager each side is."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name, model in models.items():
        for label, case in model["cases"].items():
            row = found.setdefault((model["title"], label), {})
            speeds = {side: f"{figure['median']:.2f}" for side, figure in case["speed"].items()}
            if name.startswith(_INT8) and _FP32 in speeds:
                row.setdefault("modelbuild", speeds[_FP32])
            row |= {side: speed for side, speed in speeds.items() if side in _SIDES and side not in row}
    head = ["times as fast as PyTorch eager, batch x length", *_SIDES]
    return table([head, *([f"{title}, {label}", *(row.get(side, "") for side in _SIDES)]
                          for (title, label), row in found.items())])  # fmt: skip


def _costs(results: Results) -> Iterator[list[str]]:
    if "build_cost" in results:
        cost = results["build_cost"]["costs"][_STAGES]
        memory = f"{cost['peak_mib']['median']:.0f} MiB, {cost['anonymous_mib']['median']:.0f} MiB of it anonymous"
        yield [f"peak memory of export and optimize, {results['build_cost']['model']}", memory]
        ratios = results["build_cost"]["wall_time_ratios"]
        for mine, text in ((_STAGES, "each stage alone"), (_IN_COMMAND, "in the command")):
            for other in ("Optimum O2", "Olive"):
                figure = ratios[f"{mine} / {other}"]
                yield [f"wall time of export and optimize, {text}, of {other}'s", f"{figure['median']:.2f}"]
    for name, model in results.get("artifact_speed", {}).get("models", {}).items():
        if "accuracy" in model:
            said = f"{model['accuracy']['worst_cosine']:.4f} of {model['accuracy']['sentences']} sentences"
            yield [f"{model['title']} in {name.split()[0]}, worst cosine with PyTorch", said]
    if "memory_of_export" in results:
        cost = list(results["memory_of_export"]["models"].values())[-1]
        yield [f"anonymous memory of export, {cost['weights_gb']} GB", f"{cost['anonymous_mib']['median']:.0f} MiB"]
    for builds, found in list(results.get("sweep_cost", {}).get("sweeps", {}).items())[-1:]:
        yield [f"a sweep of {builds}, of one export and {builds} rests", f"{found['ratio']['median']:.2f}"]
    if "noop" in results:
        found = results["noop"]
        yield ["a build with nothing to do", f"{found['noop_s']:.2g} s, {found['ratio']} times its libraries' import"]
    if "runtime_cost" in results:
        found = results["runtime_cost"]
        yield [
            "import of modelbuild.runtime, of that of numpy and onnxruntime",
            f"{found['import_ratio']['median']:.2f}",
        ]
        yield ["Model.run over the session, three inputs", f"{found['overhead_us']['median']:.0f} µs"]
