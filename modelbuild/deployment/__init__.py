"""Where packages go: each target is a module with `write`, which makes a folder of a package."""

from __future__ import annotations

TARGETS: dict[str, str] = {
    "triton": "modelbuild.deployment.triton",
    "container": "modelbuild.deployment.container",
}
