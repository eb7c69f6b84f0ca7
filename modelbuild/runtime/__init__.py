"""Run packages where there is no build system: numpy and onnxruntime are all it needs.

from modelbuild.runtime import load

model = load("artifacts/minilm/package")
outputs = model.run({"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
"""

from modelbuild.errors import HostError, InputError, PackageError
from modelbuild.runtime.load import Model, load

__all__ = ["HostError", "InputError", "Model", "PackageError", "load"]
