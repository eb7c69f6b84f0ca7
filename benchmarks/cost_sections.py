"""What the page says of costs: of builds, of memory, of sweeps, of builds with nothing to do, of validation."""

from __future__ import annotations

from collections.abc import Mapping

from charts import Bar, Group, bar_chart
from tables import Result, measured_on, spelled, table


def build_cost(result: Result) -> str:
    rows = [["", "wall time", "time on all cores", "peak memory", "of it anonymous", "written"]]
    for name, cost in result["costs"].items():
        memory = (f"{cost[key]['median']:.0f} MiB" for key in ("peak_mib", "anonymous_mib", "written_mib"))
        rows.append([name, spelled(cost["wall_s"], "s"), f"{cost['cpu_s']['median']:.4g} s", *memory])
    ratios = [["wall time of … / of …", "ratio"]]
    ratios += [[name, spelled(figure)] for name, figure in result["wall_time_ratios"].items()]
    return f"""\
## What a build costs

{result["model"]}, {result["weights_mib"]} MiB of weights in fp32, from a local folder to an optimized graph.

![Wall time](benchmarks-build-time.svg)

![Peak memory](benchmarks-build-memory.svg)

{table(rows)}

{table(ratios)}

In the command, export and optimize took {spelled(result["in_command_s"], "s")}: PyTorch and the other libraries are
imported once, while the configuration is composed. Optimum's command validates what it made; Olive's does not.
{measured_on(result)}
"""


def build_charts(result: Result) -> dict[str, str]:
    def chart(title: str, key: str, unit: str) -> str:
        bars = [_cost_bar(name, cost[key]) for name, cost in result["costs"].items()]
        return bar_chart(f"{result['model']}: {title}", unit, [Group(title="", bars=bars)])

    return {
        "benchmarks-build-time.svg": chart("wall time, less is better", "wall_s", "s"),
        "benchmarks-build-memory.svg": chart("peak memory, less is better", "peak_mib", "MiB"),
    }


def _cost_bar(name: str, figure: Mapping[str, float]) -> Bar:
    return Bar(
        label=name,
        value=figure["median"],
        low=figure["lowest"],
        high=figure["highest"],
        ours=name.startswith("modelbuild"),
    )


def memory(result: Result) -> str:
    rows = [["model", "weights", "anonymous memory", "peak memory", "written", "wall time"]]
    for title, cost in result["models"].items():
        cells = (spelled(cost[key], unit) for key, unit in (("anonymous_mib", "MiB"), ("peak_mib", "MiB")))
        end = [f"{cost['written_mib']['median']:.0f} MiB", spelled(cost["wall_s"], "s")]
        rows.append([title, f"{cost['weights_gb']} GB", *cells, *end])
    return f"""\
## Memory of export against the size of the model

Anonymous memory is what no file backs. The rest are pages of the checkpoint and of the graph's file, which the system
takes back when it needs them.

![Anonymous memory](benchmarks-memory.svg)

{table(rows)}

{measured_on(result)}
"""


def memory_charts(result: Result) -> dict[str, str]:
    groups = []
    for title, cost in result["models"].items():
        size = cost["weights_gb"] * 1e9 / (1 << 20)
        weights = Bar(label="weights", value=round(size), low=size, high=size, ours=False)
        bar = _cost_bar("modelbuild, anonymous memory", cost["anonymous_mib"])
        groups.append(Group(title=title, bars=[weights, bar]))
    return {"benchmarks-memory.svg": bar_chart("Anonymous memory of export, less is better", "MiB", groups)}


def sweep(result: Result) -> str:
    rows = [["builds", "wall time", "one export and the rests", "ratio", "stages run"]]
    for builds, found in result["sweeps"].items():
        cells = [spelled(found[key], "s") for key in ("wall_s", "one_export_and_the_rests_s")]
        ran = ", ".join(f"{count} {stage}" for stage, count in found["stages_run"].items())
        rows.append([builds, *cells, spelled(found["ratio"]), ran])
    return f"""\
## Sweeps that share an export

`{result["model"]}`; builds that differ in optimization and in the seed of validation, one after the other, beside one
export and what is left of each build when it is built alone.

![Sweeps](benchmarks-sweep.svg)

{table(rows)}

{measured_on(result)}
"""


def sweep_charts(result: Result) -> dict[str, str]:
    groups = [
        Group(
            title=f"{builds} build{'s' if builds != '1' else ''}",
            bars=[
                _cost_bar("modelbuild, the sweep", found["wall_s"]),
                _cost_bar("one export and the rests", found["one_export_and_the_rests_s"]),
            ],
        )
        for builds, found in result["sweeps"].items()
    ]
    return {"benchmarks-sweep.svg": bar_chart("Wall time of sweeps, less is better", "s", groups)}


def noop(result: Result) -> str:
    return f"""\
## A build with nothing to do

{result["noop_s"]} s for `python -m modelbuild {" ".join(result["overrides"])}`, where `{result["baseline"]}` takes
{result["baseline_s"]} s: {result["ratio"]} times as long ({result["ratio_lowest"]} to {result["ratio_highest"]}).
{result["rounds"]} rounds, {result["cores"]} cores.
[Result](../benchmarks/noop.json), [script](../benchmarks/noop.py).
"""


def validation(result: Result) -> str:
    rows = [["stage", "wall time", "time on all cores", "peak memory", "of the export's wall time"]]
    for name, cost in result["medians"].items():
        share = result["ratios_to_export"].get(name)
        cells = [f"{cost['wall_s']} s", f"{cost['cpu_s']} s", f"{cost['peak_mib']:.0f} MiB"]
        rows.append([name, *cells, spelled(share) if share else ""])
    return f"""\
## What validation costs

BERT-base with random weights; `quick` and `strict` are kinds of validation.

{table(rows)}

{result["rounds"]} rounds, {result["host"]["processor"]}, {result["host"]["cores"]} cores.
[Result](../benchmarks/validation_cost.json), [script](../benchmarks/validation_cost.py).
"""


def runtime(result: Result) -> str:
    imports = {name: figure["median"] for name, figure in result["import_s"].items()}
    baseline, ours = imports
    return f"""\
## What the runtime costs

`{ours}` takes {imports[ours]:.3g} s, and `{baseline}` {imports[baseline]:.3g} s:
{spelled(result["import_ratio"])} times as long. A run of a tiny BERT, three inputs, takes
{spelled(result["session_us"], "µs")} by its session, and {spelled(result["overhead_us"], "µs")} more by `Model.run`,
which checks every input and every id, and counts.

{measured_on(result)}
"""
