"""How much was fused, against what the architecture has: one attention per layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelbuild.report import Check

# By the names that `graph.GraphFacts.operators` uses. The standard's Attention is one too, from opset 23 on.
_ATTENTION = frozenset(
    {
        "Attention", "com.microsoft.Attention", "com.microsoft.GroupQueryAttention", "com.microsoft.MultiHeadAttention",
        "com.microsoft.PackedAttention", "com.microsoft.PackedMultiHeadAttention",
    }
)  # fmt: skip
_STANDARD = frozenset({"Attention", "Gelu", "LayerNormalization", "RMSNormalization", "RotaryEmbedding"})


def fused_operators(operators: Mapping[str, int]) -> dict[str, int]:
    """Those of the operators in a graph, with their number, that stand for several simpler ones."""
    return {name: n for name, n in operators.items() if name.startswith("com.microsoft.") or name in _STANDARD}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The attention operators of a graph, and how many `layers` the architecture says must have one.

    `layers` is None where its config does not say.
    """

    operators: Mapping[str, int]
    layers: int | None

    @property
    def found(self) -> int:
        """How many attention operators there are."""
        return sum(self.operators.values())

    @property
    def kept(self) -> bool:
        """Whether every layer has one; at least one, where the number of layers is not known."""
        return self.found >= (1 if self.layers is None else self.layers)

    def line(self) -> str:
        """`5 of 6 layers (com.microsoft.Attention x 5)`."""
        of = "layers, of unknown number" if self.layers is None else f"of {self.layers} layers"
        names = ", ".join(f"{name} x {number}" for name, number in sorted(self.operators.items()))
        return f"{self.found} {of}{f' ({names})' if names else ''}"

    def check(self) -> Check:
        """It as a check: `worst` is what was found, `limit` what there must be."""
        return Check(
            name="fusions",
            passed=self.kept,
            compared=f"attention fusions: {self.line()}",
            worst=self.found,
            limit=1 if self.layers is None else self.layers,
        )


def attention_budget(operators: Mapping[str, int], architecture: Mapping[str, Any]) -> Budget:
    """The budget of a graph with these operators, by what export reported of the architecture."""
    return Budget(
        operators={name: number for name, number in operators.items() if name in _ATTENTION},
        layers=architecture.get("num_hidden_layers"),
    )
