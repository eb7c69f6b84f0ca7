"""The stages as DVC runs them: the only place that knows DVC."""

from __future__ import annotations

STAGE_INPUTS: dict[str, tuple[str, ...]] = {
    "export": (),
    "sidecar": (),
    "optimize": ("export",),
    "validate": ("export", "optimize", "sidecar"),
    "benchmark": ("export", "optimize"),
    "package": ("optimize", "sidecar", "validate", "benchmark"),
}
