"""What a build is: frozen, typed, inert. Nothing here touches the network, the environment, the clock or a device."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from modelbuild.exporter_spec import Exporter
from modelbuild.model_spec import Model
from modelbuild.precision_spec import Precision
from modelbuild.provider_options import CpuOptions, CudaOptions, TensorrtOptions
from modelbuild.session_keys import NOT_SESSION_CONFIG_KEYS, SESSION_CONFIG_KEYS
from modelbuild.strict import Strict, changed
from modelbuild.suggest import did_you_mean
from modelbuild.tasks import TaskName

Size = Annotated[int, Field(ge=1, le=65536)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1)]
ProviderName = Literal["cpu", "cuda", "tensorrt"]
Mask = Literal["ones", "right", "left", "holes", "one", "empty"]


class TaskChoice(Strict):
    """The task; `auto` reads it from the checkpoint's `architectures`."""

    name: Literal["auto", TaskName]


class Opset(Strict):
    """The ONNX operator set of the default domain; `auto` is the one that a file exported elsewhere has."""

    version: Literal[17, 18, 20, 21, 23, "auto"]


class Sidecar(Strict):
    """`auto`: config, tokenizer and the other files beside the weights. `off`: the graph alone."""

    kind: Literal["auto", "off"]


class Optimization(Strict):
    """`none`, an ONNX Runtime level saved into the file (`basic`, `extended`), fusions of transformers (`transformer`
    to Attention, `multi_head_attention`, `ort_transformer` by ONNX Runtime's own optimizer), or `auto`: all ways are
    tried, and the fastest that is right ships.

    With `require_fusion`, the attention of every layer must have been fused. `auto` takes about `budget_s` seconds at
    most, and times the candidates on `shapes`, each a batch size and a length.
    """

    kind: Literal["none", "basic", "extended", "transformer", "multi_head_attention", "ort_transformer", "auto"]
    require_fusion: bool = False
    budget_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 180.0
    shapes: Annotated[tuple[tuple[Size, Size], ...], Field(min_length=1)] = ((1, 16), (1, 128), (4, 128))

    @model_validator(mode="after")
    def _required_is_promised(self) -> Self:
        if self.require_fusion and not self.promises_fusion:
            raise ValueError(
                f"require_fusion=true with optimization={self.kind}, which promises none: add optimization=transformer"
            )
        search = {"budget_s", "shapes"} & changed(self)
        if search and self.kind != "auto":
            raise ValueError(f"{min(search)} with optimization={self.kind}, which searches nothing: choose auto")
        return self

    @property
    def promises_fusion(self) -> bool:
        """Whether every layer's attention ought to be fused."""
        return self.kind in ("transformer", "multi_head_attention", "ort_transformer")


class Providers(Strict):
    """Execution providers in order of preference, each with its options."""

    order: Annotated[tuple[ProviderName, ...], Field(min_length=1)]
    allow_fallback: bool = False
    cpu: CpuOptions = CpuOptions()
    cuda: CudaOptions = CudaOptions()
    tensorrt: TensorrtOptions = TensorrtOptions()

    @model_validator(mode="after")
    def _order_is_a_set(self) -> Self:
        if len(set(self.order)) != len(self.order):
            raise ValueError(f"order names a provider twice: {', '.join(self.order)}")
        return self

    def choices(self) -> tuple[tuple[str, dict[str, bool | int | str]], ...]:
        """Names with their options, in order, as the runtime takes them."""
        return tuple((name, self.options(name)) for name in self.order)

    def options(self, name: ProviderName) -> dict[str, bool | int | str]:
        """The options of provider `name` that are set, by ONNX Runtime's names."""
        values: dict[str, Any] = getattr(self, name).model_dump(exclude_none=True)
        return values


class Session(Strict):
    """How a session runs. Thread counts of 0 mean: as many as this process may use where it is opened. With `auto`, the
    presets are measured on this machine, and the best of them takes the place of everything but entries and libraries.

    `custom_ops` are libraries of custom operators: native code, trusted, loaded for every session. Their paths are
    absolute once the configuration is read.
    """

    auto: bool = False
    intra_op_num_threads: Annotated[int, Field(ge=0, le=1024)] = 0
    inter_op_num_threads: Annotated[int, Field(ge=0, le=1024)] = 1
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    graph_optimization_level: Literal["none", "basic", "extended", "all"] = "all"
    enable_mem_pattern: bool = True
    enable_cpu_mem_arena: bool = True
    allow_spinning: bool = True
    config_entries: dict[str, str] = {}
    custom_ops: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()

    def settings(self) -> dict[str, Any]:
        """What a session is opened with, by key."""
        return self.model_dump(mode="json", exclude={"auto"})

    @field_validator("custom_ops")
    @classmethod
    def _libraries_differ_in_name(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        names = [PurePath(path).name for path in paths]
        if twice := [path for path, name in zip(paths, names, strict=True) if names.count(name) > 1]:
            raise ValueError(f"{' and '.join(twice)} have one file name: name a library once, or rename one")
        return paths

    @field_validator("config_entries")
    @classmethod
    def _entries_exist(cls, entries: dict[str, str]) -> dict[str, str]:
        for key in entries:
            if key not in SESSION_CONFIG_KEYS:
                known = NOT_SESSION_CONFIG_KEYS.get(key, did_you_mean(key, SESSION_CONFIG_KEYS))
                raise ValueError(f"ONNX Runtime has no session config key '{key}'{'; ' if known else ''}{known}")
        return entries

    @model_validator(mode="after")
    def _keys_belong_together(self) -> Self:
        own = changed(self) - {"auto", "config_entries", "custom_ops"}
        if self.auto and own:
            raise ValueError(
                f"auto=true with {min(own)}, which is one of the things that it finds: choose session=auto"
            )
        if self.execution_mode == "sequential" and self.inter_op_num_threads > 1:
            raise ValueError("inter_op_num_threads has an effect only with execution_mode=parallel")
        return self


class Validation(Strict):
    """What is compared with PyTorch, and how closely it must agree.

    An output passes when its error against PyTorch in fp64 is at most `oracle_factor` times PyTorch's own fp32 error
    plus `floor`, relative to the largest reference value. `rtol` and `atol`, if given, replace that rule by NumPy's
    `allclose`. `cover_embeddings` looks up every row of every embedding table: tokens, positions and token types, or as
    many as `cover_gflop` of arithmetic allow. `masks` are met in turn, `masks_per_size` at each size and length.
    """

    kind: Literal["strict", "quick", "off"]
    batch_sizes: Sizes = (1, 2, 3)
    sequence_lengths: Sizes = (1, 2, 7)
    masks: Annotated[tuple[Mask, ...], Field(min_length=1)] = get_args(Mask)
    masks_per_size: Annotated[int, Field(ge=1, le=6)] = 2
    include_maximum: bool = False
    cover_embeddings: bool = False
    cover_gflop: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 700.0
    oracle_factor: Annotated[float, Field(ge=1, le=100)] = 4.0
    floor: Annotated[float, Field(gt=0, le=1e-2)] = 1e-6
    rtol: Annotated[float, Field(ge=0, le=1)] | None = None
    atol: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    def lacking(self) -> list[str]:
        """The keys that are less than strict promises; sizes are free."""
        masks = [mask for mask in get_args(Mask) if mask not in self.masks]
        needed = {
            f"validation.masks {', '.join(masks)}": not masks,
            "validation.include_maximum": self.include_maximum,
            "validation.cover_embeddings": self.cover_embeddings,
        }
        return [key for key, given in needed.items() if not given]


class Benchmark(Strict):
    """What is measured: each of `batch_sizes` with each of `sequence_lengths`, in `rounds` blocks of `runs` calls per
    side, interleaved, after `warmup` calls. A length that the model does not take is cut to the longest that it does.

    `loads` is how often each file is loaded. With `compile`, what `torch.compile` makes is measured beside eager mode.
    """

    kind: Literal["off", "quick", "full"]
    batch_sizes: Sizes = (1, 4, 16)
    sequence_lengths: Sizes = (64,)
    rounds: Annotated[int, Field(ge=5, le=1000)] = 7
    runs: Annotated[int, Field(ge=1, le=10000)] = 3
    warmup: Annotated[int, Field(ge=1, le=1000)] = 2
    loads: Annotated[int, Field(ge=3, le=1000)] = 5
    compile: bool = False
    seed: Annotated[int, Field(ge=0)] = 0


class BuildSpec(Strict):
    """A build as it was declared. The field names are the config groups."""

    model: Model
    task: TaskChoice
    opset: Opset
    exporter: Exporter
    sidecar: Sidecar
    optimization: Optimization
    precision: Precision
    providers: Providers
    session: Session
    validation: Validation
    benchmark: Benchmark

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        problems = [text for broken, text in self._impossible() if broken]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _impossible(self) -> list[tuple[bool, str]]:
        gpu = bool(set(self.providers.order) - {"cpu"})
        kind, opset = self.exporter.kind, self.opset.version
        no_cpu = self.session.config_entries.get("session.disable_cpu_ep_fallback") == "1"
        return [
            (
                kind == "optimum" and opset != "auto" and opset > OPTIMUM_MAX_OPSET,
                f"opset={opset} with exporter=optimum: at most {OPTIMUM_MAX_OPSET}, or exporter=dynamo",
            ),
            (
                kind != "file" and opset == "auto",
                f"opset=auto with exporter={kind}: choose a number, or exporter=file, whose opset it is",
            ),
            (
                gpu and self.session.execution_mode == "parallel",
                f"session.execution_mode=parallel with providers={self.providers.order[0]}: choose session=latency",
            ),
            (
                self.precision.kind in ("fp16", "bf16") and self.providers.order[0] == "cpu",
                f"precision={self.precision.kind} with providers=cpu, which has no kernels for it: choose int8 or fp32",
            ),
            (
                self.precision.kind in ("int8", "int8_static") and gpu,
                f"precision={self.precision.kind} is for providers=cpu, and others lack its kernels: choose fp16",
            ),
            (
                self.precision.quantizes and self.optimization.kind == "ort_transformer",
                f"optimization=ort_transformer hides layers from precision={self.precision.kind}: choose transformer",
            ),
            (
                self.precision.kind != "fp32" and "oracle_factor" in changed(self.validation),
                f"validation.oracle_factor with precision={self.precision.kind}: its limits are precision.min_…",
            ),
            (
                self.precision.kind in ("int8_weights", "int4") and "tensorrt" in self.providers.order,
                f"precision={self.precision.kind} with providers=tensorrt, which has no MatMulNBits: choose fp16",
            ),
            (
                gpu and self.providers.order[-1] != "cpu" and "cpu" in self.providers.order,
                "providers.order has cpu before another provider: cpu takes every node, so it must come last",
            ),
            (
                no_cpu and ("cpu" in self.providers.order or self.providers.allow_fallback),
                "session.disable_cpu_ep_fallback=1 with cpu in providers.order or allow_fallback=true: choose one",
            ),
            (
                self.validation.kind == "off" and self.validation != Validation(kind="off"),
                "validation=off with other validation keys: nothing is compared; choose validation=quick",
            ),
            (
                self.validation.kind == "strict" and bool(self.validation.lacking()),
                f"validation=strict without {', '.join(self.validation.lacking())}: add it, or choose validation=quick",
            ),
        ]


OPTIMUM_MAX_OPSET = 20
