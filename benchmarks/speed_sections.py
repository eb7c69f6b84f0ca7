"""What the page says of the speed of artifacts."""

from __future__ import annotations

from charts import Bar, Group, bar_chart
from tables import Result, measured_on, ratio, table


def artifact_speed(result: Result) -> str:
    speeds: list[str] = []
    for model in result["models"].values():
        sides = list(next(iter(model["cases"].values()))["speed"])
        rows = [[model["title"], *sides]]
        rows += [[label, *(ratio(case["speed"][side]) for side in sides)] for label, case in model["cases"].items()]
        speeds.append("\n\n".join([table(rows), _beside(model), *_notes(model)]))
    tables = "\n\n".join(speeds)
    return f"""\
## How fast the artifacts are

Times PyTorch eager, on the same inputs with the same number of threads, with 95 % intervals; batch x length, or images.
More is better.

![Speed](benchmarks-artifact-speed.svg)

{tables}

{result["runs"]} calls in a row per side and round. {measured_on(result)}
"""


def _beside(model: Result) -> str:
    case = next(iter(model["cases"].values()))
    others = list(case["beside"])
    rows = [[f"{case['subject']} / …", *others]]
    for label, found in model["cases"].items():
        cells = (f"{ratio(found['beside'][name])}, {found['beside'][name]['verdict']}" for name in others)
        rows.append([label, *cells])
    return table(rows)


def _notes(model: Result) -> list[str]:
    notes = [f"{name}'s graph does not load: {said}." for name, said in model.get("failed", {}).items()]
    if "chosen" in model:
        notes.append(f"The search of `optimization=auto` chose `{model['chosen']}`.")
    if "linear_layers" in model:
        layers = model["linear_layers"]
        notes.append(f"{layers['quantized']} linear layers are quantized, {layers['fp32']} are in fp32.")
    if "accuracy" in model:
        found = model["accuracy"]
        notes.append(
            f"Of {found['sentences']} real sentences, the vectors of int8 have a cosine with PyTorch's of "
            f"{found['worst_cosine']} at worst and {found['mean_cosine']} on average; rank agreement of all pairs "
            f"{found['rank_agreement']}."
        )
    loads = ", ".join(f"{name} {value:.0f} ms" for name, value in model["load_ms"].items())
    notes.append(f"Loading takes, without imports and disk: {loads}.")
    for kind, differences in model["off_by"].items():
        sides = ", ".join(f"{name} {value:.2g}" for name, value in differences.items())
        notes.append(f"Off from PyTorch with {kind}, of the largest value: {sides}.")
    return [" ".join(notes)]


def speed_charts(result: Result) -> dict[str, str]:
    groups = [
        Group(
            title=f"{model['title']} {'int8 ' if name.startswith('int8') else ''}{label}",
            bars=[
                Bar(label=side, value=f["median"], low=f["low"], high=f["high"], ours=side.startswith("modelbuild"))
                for side, f in case["speed"].items()
            ],
        )
        for name, model in result["models"].items()
        for label, case in model["cases"].items()
    ]
    return {"benchmarks-artifact-speed.svg": bar_chart("Times PyTorch eager, more is better", "x", groups, mark=1.0)}
