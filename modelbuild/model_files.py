"""The files of a Hugging Face model folder that matter here, by name."""

from __future__ import annotations

from pathlib import PurePosixPath

CONFIG_FILE = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"
PREPROCESSOR_CONFIG = "preprocessor_config.json"
ADAPTER_FILE = "adapter_config.json"
SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# What weights may be called in the order in which they are looked for: by transformers, and by diffusers.
TRANSFORMERS_WEIGHTS = (SAFE_WEIGHTS, PICKLED_WEIGHTS)
DIFFUSERS_WEIGHTS = (
    ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"),
    ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.bin.index.json"),
)
MODEL_INDEX = "model_index.json"
SCHEDULER_CONFIG = "scheduler_config.json"
SAFE_SUFFIX, PICKLE_SUFFIX, INDEX_SUFFIX = ".safetensors", ".bin", ".index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
    "normalizer.json",
    "chat_template.jinja",
)
# With one of these there is a tokenizer; the others go with it.
VOCABULARY_FILES = frozenset(
    {"tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"}
)
OTHER_FILES = (
    GENERATION_CONFIG,
    PREPROCESSOR_CONFIG,
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
# The configs of a pipeline's parts: what its graphs take follows from the scheduler's too.
_PART_CONFIGS = (
    *(f"{part}/{CONFIG_FILE}" for part in ("text_encoder", "unet", "vae")),
    f"scheduler/{SCHEDULER_CONFIG}",
)
_IN_A_PIPELINE = (("text_encoder", TRANSFORMERS_WEIGHTS), ("unet", DIFFUSERS_WEIGHTS), ("vae", DIFFUSERS_WEIGHTS))
# The settings among them: small, and read by code that can be told to fetch and run other code.
SETTINGS_FILES = (TOKENIZER_CONFIG, *OTHER_FILES)


def wanted_from_hub(*, pickled: bool) -> list[str]:
    """Patterns of the files of a repository that matter, whether it has a model or a pipeline; of weights, those in
    pickles or those that are not.
    """
    folders = (("", TRANSFORMERS_WEIGHTS), *((f"{part}/", names) for part, names in _IN_A_PIPELINE))
    weights = [f"{folder}{name}" for folder, names in folders for name in names[pickled]]
    shards = [name.removesuffix(INDEX_SUFFIX) for name in weights if name.endswith(INDEX_SUFFIX)]
    suffix = PICKLE_SUFFIX if pickled else SAFE_SUFFIX
    weights += [f"{name.removesuffix(suffix)}-*{suffix}" for name in shards]
    beside = [*TOKENIZER_FILES, *OTHER_FILES, *(f"tokenizer/{name}" for name in TOKENIZER_FILES)]
    return [CONFIG_FILE, MODEL_INDEX, *_PART_CONFIGS, *weights, *beside]


def is_weight(name: str) -> bool:
    """Whether a file of that name, one of those above or a shard, holds weights or says which files do."""
    return name.endswith((SAFE_SUFFIX, PICKLE_SUFFIX, INDEX_SUFFIX))


def is_config(name: str) -> bool:
    """Whether a file of that name says what the weights beside it are: the model's config, or that of a part."""
    return name in (CONFIG_FILE, MODEL_INDEX, *_PART_CONFIGS)


def is_pickle(name: str) -> bool:
    """Whether a file of that name is a pickle, which can run code when it is read."""
    return name.endswith(PICKLE_SUFFIX)


def vocabularies(tokenizer_folder: str) -> set[str]:
    """The files of which a folder with a tokenizer has one."""
    return {(PurePosixPath(tokenizer_folder) / name).as_posix() for name in VOCABULARY_FILES}
