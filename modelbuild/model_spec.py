"""Which model, and where its files come from: part of what a build is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from modelbuild.strict import Digests, Name, Strict

Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Repository = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]


class PackageSource(Strict):
    """Files carried by an installed Python package: `folder` inside `package`.

    `allow_pickle` lets weights be read from `pytorch_model.bin` where there is no `model.safetensors`, as tensors only.
    """

    kind: Literal["package"]
    package: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.\w+)*$")]
    folder: str = ""
    digests: Digests = {}
    allow_pickle: bool = False


class PathSource(Strict):
    """A local Hugging Face folder. `path` is absolute once the configuration is read."""

    kind: Literal["path"]
    path: Annotated[str, StringConstraints(min_length=1)]
    digests: Digests = {}
    allow_pickle: bool = False


class HubSource(Strict):
    """A repository of the Hugging Face hub at a pinned revision."""

    kind: Literal["hub"]
    repository: Repository
    revision: Revision
    digests: Digests = {}
    allow_pickle: bool = False


class InitSource(Strict):
    """An architecture from its config, with random weights drawn from `seed`. Not a trained model.

    `config` has the keys of the architecture's own config, with any JSON values.
    """

    kind: Literal["init"]
    architecture: Annotated[str, StringConstraints(pattern=r"^[A-Z]\w*$")]
    config: dict[str, JsonValue] = {}
    seed: Annotated[int, Field(ge=0)] = 0


Source = Annotated[PackageSource | PathSource | HubSource | InitSource, Field(discriminator="kind")]


class Model(Strict):
    """Which model, and where its files come from."""

    name: Name
    source: Source
