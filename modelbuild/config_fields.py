"""The fields of a model's config that everything that opens it goes by, under the names that its family gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DIMENSIONS = (
    "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "num_hidden_layers", "vocab_size",
    "max_position_embeddings", "type_vocab_size", "hidden_act", "image_size", "patch_size", "num_channels",
    "projection_dim",
)  # fmt: skip
# Names that transformers' own `attribute_map` does not have.
_OTHER_NAMES = {"hidden_act": ("activation", "activation_function", "hidden_activation")}
# What `from_pretrained` notes down: where a config was read on this machine, and with which release.
_OF_THE_MACHINE = ("_name_or_path", "transformers_version")
TOKENS = ("pad", "bos", "eos", "sep", "cls")
# What says how a text that is made begins and ends, and what it is asked for with.
GENERATION = (
    "is_encoder_decoder", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens",
    "begin_suppress_tokens", "task_specific_params", "prefix",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field as a family has it: `name` is the general one (`hidden_size`), `own` the family's (`n_embd`)."""

    name: str
    own: str
    value: Any

    def found(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of a `config.json` that set this field: under its own name, the general one, or both."""
        return {name: config[name] for name in dict.fromkeys((self.own, self.name)) if name in config}


def dimensions(config: Any) -> tuple[Field, ...]:
    """The dimensions and the activation in a transformers config. What the family has not is left out."""
    aliases = getattr(config, "attribute_map", {})
    found = []
    for name in _DIMENSIONS:
        for own in (aliases.get(name, name), *_OTHER_NAMES.get(name, ())):
            if getattr(config, own, None) is not None:
                found.append(Field(name=name, own=own, value=getattr(config, own)))
                break
    return tuple(found)


def token_ids(config: Any) -> tuple[Field, ...]:
    """The ids of special tokens in a transformers config, those that are None left out."""
    names = [f"{token}_token_id" for token in TOKENS]
    ids = [(name, getattr(config, name, None)) for name in names]
    return tuple(Field(name=name, own=name, value=value) for name, value in ids if value is not None)


def start_token(config: Any) -> int | None:
    """The token that a decoder beside an encoder is given first, as transformers chooses it, or None."""
    for name in ("decoder_start_token_id", "bos_token_id"):
        if getattr(config, name, None) is not None:
            return int(getattr(config, name))
    return None


def without_machine(config: Any) -> Any:
    """The JSON value `config` without what is of the machine that it was written on, at any depth."""
    if isinstance(config, Mapping):
        return {key: without_machine(value) for key, value in config.items() if key not in _OF_THE_MACHINE}
    return [without_machine(value) for value in config] if isinstance(config, list | tuple) else config
