"""transformers' `generate`: what the original makes of a prompt, and the settings of it that belong beside a model. A
door to transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from modelbuild.config_fields import start_token
from modelbuild.errors import ExportError, first_line
from modelbuild.model_files import GENERATION_CONFIG

Array = npt.NDArray[Any]

# With none, transformers takes the model's own; so a text ends with a token that there is not.
_NO_END = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class Generated:
    """New tokens `(batch, count)`, and the scores that each was the best of, `(batch, count, vocabulary)`."""

    tokens: Array
    scores: Array


def generate(model: torch.nn.Module, inputs: Mapping[str, Array], count: int) -> Generated:
    """`count` tokens, each the best, whatever ends a text, after `inputs`.

    What a family or a generation config adds to that (penalties, tokens that are forced or forbidden) is left out: it
    is not in the graph. Raises ExportError when the model cannot do it.
    """
    plain = transformers.GenerationConfig(
        do_sample=False,
        max_new_tokens=count,
        eos_token_id=_NO_END,
        pad_token_id=0,
        decoder_start_token_id=start_token(model.config),
        use_cache=True,
        return_dict_in_generate=True,
        output_logits=True,
    )
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()}
    mixin: Any = transformers.GenerationMixin
    try:
        made = mixin.generate(model, **tensors, generation_config=plain, use_model_defaults=False)
    except Exception as error:
        hint = "correct generation_config.json, or set validation=off"
        what = f"PyTorch cannot generate: {first_line(error)}"
        raise ExportError(what, where=type(model).__name__, hint=hint) from error
    scores = np.stack([np.asarray(step) for step in made.logits], axis=1)
    return Generated(tokens=np.asarray(made.sequences[:, -count:]), scores=scores)


def made_generation_config(config: Any) -> dict[str, Any]:
    """The `generation_config.json` that transformers makes of a model's config, as plain JSON values."""
    made = transformers.GenerationConfig.from_model_config(config).to_diff_dict()
    return {key: value for key, value in made.items() if key not in ("transformers_version", "_from_model_config")}


def require_generation_config(settings: Mapping[str, Any]) -> None:
    """Raise ExportError when transformers does not take a `generation_config.json`."""
    try:
        transformers.GenerationConfig.from_dict(dict(settings))
    except Exception as error:
        raise ExportError(
            f"transformers refuses it: {first_line(error)}", where=GENERATION_CONFIG, hint="correct the file"
        ) from error
