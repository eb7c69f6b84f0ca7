"""Opening a package as somebody else would: in a process of its own, with nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]

_OFFLINE = {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
# Where the library that is tried warns of itself, it is not our business here.
_HEAD = "import sys\nimport numpy as np\nfolder, given, answers = sys.argv[1], np.load(sys.argv[2]), {}\n"
_TAIL = "\nnp.savez(sys.argv[3], **{name: np.asarray(value) for name, value in answers.items()})\n"

# Each block of the README as somebody would run it who has copied it; `modelbuild` is the folder of this package.
README_BLOCKS = """
import contextlib, io, os, re
from pathlib import Path

os.chdir(folder)
sys.path.insert(0, str(given["modelbuild"]))
blocks = re.findall(r"^```python\\n(.*?)^```$", Path("README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
answers["kinds"] = [("pipeline(" in block, "ORTModel" in block) for block in blocks]
for number, block in enumerate(blocks):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block, {})
    answers[f"printed.{number}"] = printed.getvalue()
"""


def answers(script: str, package: Path, scratch: Path, **given: Any) -> Arrays:
    """What `script` puts into the dict `answers`, run in a new Python process that knows nothing of this package.

    It finds the package's path as `folder` and the arrays `given` by name. What it writes to stderr is in the error
    when it fails.
    """
    inputs, outputs, source = scratch / "given.npz", scratch / "answers.npz", scratch / "script.py"
    np.savez(inputs, **given)
    source.write_text(f"{_HEAD}{script}{_TAIL}", encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | _OFFLINE
    done = subprocess.run(
        [sys.executable, source, package, inputs, outputs],
        cwd=scratch,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(outputs) as found:
        return dict(found)
