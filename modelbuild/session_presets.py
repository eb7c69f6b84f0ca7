"""The presets of a session, and the one that was settled for a build whose `session` is `auto`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelbuild.report import read_report
from modelbuild.spec import Session

# What the files of the config group say: they are read where a build is composed, and these where it runs.
PRESETS: dict[str, dict[str, Any]] = {
    "latency": {
        "intra_op_num_threads": 0,
        "inter_op_num_threads": 1,
        "execution_mode": "sequential",
        "graph_optimization_level": "all",
        "enable_mem_pattern": True,
        "enable_cpu_mem_arena": True,
        "allow_spinning": True,
        "config_entries": {"session.force_spinning_stop": "1"},
    },
    "throughput": {
        "intra_op_num_threads": 0,
        "inter_op_num_threads": 0,
        "execution_mode": "parallel",
        "graph_optimization_level": "all",
        "enable_mem_pattern": True,
        "enable_cpu_mem_arena": True,
        "allow_spinning": False,
        "config_entries": {},
    },
    "edge": {
        "intra_op_num_threads": 1,
        "inter_op_num_threads": 1,
        "execution_mode": "sequential",
        "graph_optimization_level": "all",
        "enable_mem_pattern": False,
        "enable_cpu_mem_arena": False,
        "allow_spinning": False,
        "config_entries": {},
    },
}


def preset(session: Session, name: str) -> Session:
    """The preset `name`, with the entries of `session` that are no preset's laid over its own, and its libraries."""
    of_presets = [entry for values in PRESETS.values() for entry in values["config_entries"].items()]
    asked = {key: value for key, value in session.config_entries.items() if (key, value) not in of_presets}
    entries = {"config_entries": PRESETS[name]["config_entries"] | asked}
    return session.model_copy(update=PRESETS[name] | entries | {"auto": False})


def settled(session: Session, optimized: Path) -> Session:
    """The session itself; or, for `auto`, the preset that the optimize stage found best, as its folder says."""
    if not session.auto:
        return session
    return preset(session, str(read_report(optimized / "report.json").facts["session"]["chosen"]))
