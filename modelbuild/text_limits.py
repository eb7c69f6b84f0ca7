"""What a text model can take, by its config, and the interface of a graph that takes text alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelbuild.interface import Axis, Input, Interface
from modelbuild.tasks import OPTIONAL_INPUTS, Task

# Families of fairseq's line: their first token has the position after the padding token's id, so that so many rows of
# the position table are never used (transformers, `create_position_ids_from_input_ids`).
_POSITIONS_AFTER_PADDING = frozenset(
    {
        "camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta",
        "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip

_CHOICES = 4
# What families call the number of positions that there are; the last is MPT's, whose biases are a table.
_POSITIONS = ("max_position_embeddings", "max_target_positions", "max_seq_len")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a text model can take: token ids below `vocab_size`, token types below `type_vocab_size`, `max_positions`
    tokens (None: nobody knows of a limit).
    """

    vocab_size: int
    type_vocab_size: int
    max_positions: int | None


def limits_of(config: Any) -> Limits:
    """The limits in a transformers config. A family without token types has one; of one that takes any number of
    positions, none is said. Of a model of images and texts they are those of its texts.
    """
    config = getattr(config, "text_config", None) or config
    after_padding = getattr(config, "model_type", "") in _POSITIONS_AFTER_PADDING
    unused = (config.pad_token_id or 0) + 1 if after_padding else 0
    given = next((getattr(config, name) for name in _POSITIONS if hasattr(config, name)), None)
    positions = None if given is None or int(given) < 1 else int(given) - unused
    return Limits(
        vocab_size=int(config.vocab_size),
        type_vocab_size=int(getattr(config, "type_vocab_size", 1) or 1),
        max_positions=positions,
    )


def text_interface(task: Task, names: Sequence[str], limits: Limits) -> Interface:
    """The interface of a graph that takes the inputs `names`, each `(batch, sequence)` of int64, for `task`; with
    `choices`, each `(batch, choices, sequence)`.
    """
    shape = ("batch", *(("choices",) if task.choices else ()), "sequence")
    contents: dict[str, dict[str, Any]] = {
        "input_ids": {"content": "token_ids", "below": limits.vocab_size},
        "attention_mask": {"content": "attention_mask"},
        "token_type_ids": {"content": "token_type_ids", "below": limits.type_vocab_size},
    }
    choices = (Axis(name="choices", kind="extent", native=_CHOICES),) if task.choices else ()
    axes = (
        Axis(name="batch", kind="batch"),
        *choices,
        Axis(name="sequence", kind="length", largest=limits.max_positions),
    )
    return Interface(
        inputs=tuple(
            Input(name=name, dtype="int64", shape=shape, optional=name in OPTIONAL_INPUTS, **contents[name])
            for name in names
        ),
        outputs=task.outputs,
        axes=axes,
    )
