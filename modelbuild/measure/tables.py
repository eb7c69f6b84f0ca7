"""Tables of latencies that DVC makes plots of."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "latency"
SIDES = ("pytorch", "compiled", "onnxruntime")
_COLUMNS = ("p50_ms", "p90_ms", "p99_ms")


def write_tables(cases: Mapping[str, Any], out: Path) -> None:
    """A table for each case, by side, in a folder of `out`; where nothing was measured, one without rows."""
    folder = out / FOLDER
    folder.mkdir()
    for name, case in (cases or {"off": {}}).items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("side", *_COLUMNS))
            writer.writerows((side, *(case[side][key] for key in _COLUMNS)) for side in SIDES if side in case)
