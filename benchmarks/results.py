"""What a benchmark writes: rounds as they are done, so that it can be taken up again, and in the end one JSON file."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import modelbuild

HERE = Path(__file__).resolve().parent
LIBRARIES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy", "dvc", "hydra-core")
# What matrix products are made of: whether a machine has these decides what int8 and bf16 are worth on it.
_ISA = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")
# What is drawn changes nothing that is measured.
_DRAWING = ("charts", "cost_sections", "draw", "speed_sections", "summary", "tables")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the command line asked for."""

    name: str
    rounds: int
    work: Path
    out: Path | None
    chosen: argparse.Namespace

    def folder(self, name: str) -> Path:
        """A folder `name` to work in, made."""
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def plan(name: str, description: str | None, *, rounds: int, options: Mapping[str, Mapping[str, Any]]) -> Plan:
    """The plan of benchmark `name` by the command line, whose further `options` are as argparse takes them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=rounds)
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="models, environments and scratch; kept")
    parser.add_argument("--out", type=Path, help=f"where the figures go, such as benchmarks/{name}.json")
    parser.add_argument("--again", action="store_true", help="forget the rounds of an earlier run")
    for option, keywords in options.items():
        parser.add_argument(option, **keywords)
    chosen = parser.parse_args()
    if chosen.out and not chosen.out.absolute().parent.is_dir():
        parser.error(f"--out {chosen.out}: its folder does not exist")
    made = Plan(name=name, rounds=chosen.rounds, work=chosen.work.resolve(), out=chosen.out, chosen=chosen)
    made.work.mkdir(parents=True, exist_ok=True)
    if chosen.again:
        rounds_file(made).unlink(missing_ok=True)
    return made


def positive(text: str) -> int:
    """A whole number of at least 1. Raises what argparse shows in its own words."""
    with suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")


def rounds_file(made: Plan) -> Path:
    """Where the rounds that are done are kept."""
    return made.work / f"{made.name}.rounds.jsonl"


def run_parts(
    made: Plan, settings: Mapping[str, Any], names: Sequence[str], one: Callable[[str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """What `one` finds in each of the parts `names`. Those that an interrupted run with the same `settings` and
    the same code has done are taken over. Each has its name, the load average before it, and when it was.
    """
    path = rounds_file(made)
    key = identity(settings)
    done = {part["part"]: part for part in read_parts(path, key)}
    if not done:
        path.write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")
    for name in names:
        if name in done:
            continue
        print(f"{made.name}: {name}", flush=True)
        before = {"part": name, "load_average": round(os.getloadavg()[0], 2), "time": time.strftime("%Y-%m-%d %H:%M")}
        done[name] = before | one(name)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(done[name]) + "\n")
    return [done[name] for name in names]


def read_parts(path: Path, key: str) -> list[dict[str, Any]]:
    """The parts in `path` that were made under `key`; none where there are others. A line cut off by a crash is
    passed over, with what follows it.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found[1:] if found and found[0].get("key") == key else []


def identity(settings: Mapping[str, Any]) -> str:
    """What rounds must have in common to be put together: settings, versions, and the code of modelbuild."""
    package = Path(modelbuild.__file__).parent
    digest = hashlib.sha256(json.dumps([settings, versions()], sort_keys=True, default=str).encode())
    measuring = [path for path in HERE.glob("*.py") if path.stem not in _DRAWING]
    for path in sorted([*package.rglob("*.py"), *(package.parent / "conf").rglob("*.yaml"), *measuring]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def write(made: Plan, parts: Sequence[Mapping[str, Any]], figures: Mapping[str, Any], **settings: Any) -> None:
    """Print the figures, with what they were measured on, and write them where the command line says."""
    result = {
        "benchmark": made.name,
        "date": max(part["time"] for part in parts).partition(" ")[0],
        "rounds": made.rounds,
        "load_average_before_each_part": [part["load_average"] for part in parts],
        "machine": machine(),
        "versions": versions(),
        **settings,
        **figures,
    }
    text = json.dumps(result, indent=2, default=str)
    print(text)
    if made.out:
        made.out.write_text(text + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that figures depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def machine() -> dict[str, Any]:
    """What the figures were measured on: processor, cores, instructions that matter, memory, kernel."""
    known = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        if ":" in line
    )
    info = {key.strip(): value.strip() for key, value in known.items()}
    flags = set(info.get("flags", info.get("Features", "")).split())
    return {
        "processor": info.get("model name", platform.machine()),
        "family": "/".join(info.get(key, "?") for key in ("cpu family", "model")),
        "cores": len(os.sched_getaffinity(0)),
        "isa": [flag for flag in _ISA if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }
