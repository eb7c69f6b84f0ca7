"""The precision of weights and arithmetic, and what the gate asks of a package whose precision is reduced."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelbuild.strict import Strict


class Fp32Precision(Strict):
    """The original's precision: nothing is reduced, and the gate asks for the original's numbers."""

    kind: Literal["fp32"]
    quantizes: ClassVar[bool] = False


class _Reduced(Strict):
    """What the gate asks of a package whose precision is reduced, on real text where the model reads text: the cosine
    of every sentence with PyTorch fp32 is at least `min_cosine`, and the share of positions whose most probable class
    is PyTorch's is at least `min_top_1`.
    """

    min_cosine: Annotated[float, Field(ge=0, le=1)]
    min_top_1: Annotated[float, Field(ge=0, le=1)]


class HalfPrecision(_Reduced):
    """Weights and arithmetic in 16 bits, inputs and outputs in fp32: for GPUs."""

    kind: Literal["fp16", "bf16"]
    quantizes: ClassVar[bool] = False


class Int8Precision(_Reduced):
    """Linear layers in 8 bit integers: activations are quantized as they come (`int8`), or with ranges that calibration
    found (`int8_static`). Up to `max_fp32_layers` of them stay in fp32 where the gate would fail otherwise.
    """

    kind: Literal["int8", "int8_static"]
    quantizes: ClassVar[bool] = True
    max_fp32_layers: Annotated[int, Field(ge=0)]


class WeightsPrecision(_Reduced):
    """The weights of linear layers in 8 or 4 bits, in blocks of `block_size` with a scale each; activations stay in
    fp32, or are quantized block by block on the way with `accuracy_level` 4. `max_fp32_layers` is that of `int8`.
    """

    kind: Literal["int8_weights", "int4"]
    quantizes: ClassVar[bool] = True
    block_size: Literal[16, 32, 64, 128, 256]
    accuracy_level: Literal[0, 1, 4]
    max_fp32_layers: Annotated[int, Field(ge=0)]


Precision = Annotated[Fp32Precision | HalfPrecision | Int8Precision | WeightsPrecision, Field(discriminator="kind")]
