"""Numbers in 16 bits: fp16 and bf16. Pure numpy; bf16 is a dtype that another library gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# A number as large as this means that there is no bound: it becomes the largest that there is.
_BOUNDLESS = 1e9
_BFLOAT16 = "bfloat16"


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of the dtype are floating point, bf16 too, which numpy does not know."""
    return dtype.kind == "f" or dtype.name == _BFLOAT16


def epsilon(dtype: np.dtype[Any]) -> float:
    """The distance from 1 to the next number of a floating point dtype."""
    return 2.0**-7 if dtype.name == _BFLOAT16 else float(np.finfo(dtype).eps)


def narrowed(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The values rounded to the nearest of a 16 bit dtype. Beyond its range they become infinite, but what stands for
    no bound becomes the largest or smallest number that there is: fp32's own, and a single number from 1e9 on.
    """
    size, largest = np.abs(values), np.finfo(np.float32).max
    boundless = (size == largest) | (np.isfinite(values) & (size >= _BOUNDLESS) & (values.size == 1))
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(dtype)
        limits = np.copysign(_limit(dtype), values).astype(dtype)
    return np.where(boundless & ~np.isfinite(rounded.astype(np.float32)), limits, rounded)


def _limit(dtype: np.dtype[Any]) -> float:
    """The largest number: all bits of the exponent but the last, and all of the fraction."""
    top = 0x7F7F if dtype.name == _BFLOAT16 else 0x7BFF
    return float(np.array(top, np.uint16).view(dtype))
