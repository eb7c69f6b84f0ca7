"""Weight files as small as they can be, sound and damaged."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from safetensors.numpy import save


def safe_weights(*names: str, **metadata: str) -> bytes:
    """A safetensors file with a tensor of two numbers under each name (`a` if none is given), written by PyTorch."""
    return save({name: np.arange(2, dtype=np.float32) for name in names or ("a",)}, metadata or {"format": "pt"})


def with_header(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with that header, or that text for one."""
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(start: int, end: int, **changes: Any) -> dict[str, Any]:
    """A tensor of float32 in a header."""
    return {"dtype": "F32", "shape": [(end - start) // 4], "data_offsets": [start, end]} | changes
