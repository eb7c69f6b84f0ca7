"""Run packages where there is no build system: numpy and onnxruntime are all it needs.

from modelbuild.runtime import load

model = load("artifacts/minilm/package")
outputs = model.run({"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
"""

from modelbuild.errors import ClosedError, HostError, InputError, PackageError
from modelbuild.runtime.cache import CacheStatus, ModelCache
from modelbuild.runtime.load import load
from modelbuild.runtime.metrics import GraphMetrics
from modelbuild.runtime.model import Health, Model

__all__ = [
    "CacheStatus",
    "ClosedError",
    "GraphMetrics",
    "Health",
    "HostError",
    "InputError",
    "Model",
    "ModelCache",
    "PackageError",
    "load",
]
