"""A recipe for a container that runs the package, and nothing else: no PyTorch, no build system, not as root.

<out>/Dockerfile  requirements.txt  modelbuild/… (the modules of the runtime)  package/…
"""

from __future__ import annotations

import shutil
from modulefinder import ModuleFinder
from pathlib import Path

import modelbuild
from modelbuild.deployment.files import copy_files
from modelbuild.deployment.options import Options
from modelbuild.errors import ConfigError, PackageError
from modelbuild.manifest import FILE_NAME, Manifest

_ENTRY = "modelbuild.runtime.__main__"
_REQUIRED = ("numpy", "onnxruntime")
_TOKENIZER = "tokenizer.json"
# Imported by parts of the runtime that are used where they are installed.
_OPTIONAL = ("prometheus_client", "tokenizers")
_DOCKERFILE = """\
# Build it in this folder: docker build --tag {name} .
# Check the package in it: docker run --rm {name}
# Run it on arrays:        docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" {name} \\
#                            --inputs /data/in.npz --outputs /data/out.npz
FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt
COPY modelbuild ./modelbuild
COPY package ./package
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
USER 10001:10001
ENTRYPOINT ["python", "-m", "modelbuild.runtime", "package"]
"""


def write(package: Path, manifest: Manifest, out: Path, options: Options) -> None:
    """Write the recipe into `out`. Raises PackageError for a package that needs a GPU or does not say what it was
    proven with, and ConfigError for a batch, which it puts none together of.
    """
    if options.max_batch_size:
        raise ConfigError("a container puts no rows together", where="--max-batch-size", hint="use --for triton")
    if gpu := [name for name, _ in manifest.providers if name != "cpu"]:
        raise PackageError(
            f"a container is made for the CPU, and this package for {', '.join(gpu)}",
            where=str(package),
            hint="build with providers=cpu, or use --for triton",
        )
    copy_files(package, [*manifest.files, FILE_NAME], out / "package")
    for file in _runtime_files():
        target = out / "modelbuild" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_root() / file, target)
    (out / "requirements.txt").write_text("\n".join(_requirements(manifest)) + "\n", encoding="utf-8")
    (out / "Dockerfile").write_text(_DOCKERFILE.format(name=manifest.name.lower()), encoding="utf-8")


def _root() -> Path:
    return Path(str(modelbuild.__file__)).parent


def _runtime_files() -> list[Path]:
    """What `modelbuild.runtime` imports of modelbuild, found without running it."""
    finder = ModuleFinder(path=[str(_root().parent)], excludes=[*_REQUIRED, *_OPTIONAL])
    finder.import_hook(_ENTRY)
    files = [
        Path(str(getattr(module, "__file__", "")))
        for name, module in finder.modules.items()
        if name.split(".")[0] == "modelbuild"
    ]
    return sorted(file.relative_to(_root()) for file in files)


def _requirements(manifest: Manifest) -> list[str]:
    """The versions that the package was proven with; the wheels for the CPU, whose versions those for GPUs share."""
    found = dict(manifest.tools)
    found.setdefault("onnxruntime", found.get("onnxruntime-gpu", ""))
    if missing := [name for name in _REQUIRED if not found.get(name)]:
        raise PackageError(f"the package does not say which {missing[0]} it was proven with", hint="build it again")
    wanted = (*_REQUIRED, *(["tokenizers"] if _TOKENIZER in manifest.files and "tokenizers" in found else []))
    return [f"{name}=={found[name]}" for name in wanted]
