"""`python -m modelbuild.runtime.trial FILE`: load a library of custom operators in a process that it may take down.

What is wrong with the library is printed as JSON: the code of the error, and its problem.
"""

from __future__ import annotations

import json
import sys

import onnxruntime as ort

from modelbuild.errors import ModelbuildError
from modelbuild.runtime.custom_ops import register


def main() -> int:
    """Load the library that the command line names. Returns 0 when nothing is wrong with it."""
    try:
        register(ort.SessionOptions(), sys.argv[1:])
    except ModelbuildError as error:
        (problem,) = error.problems
        print(json.dumps([error.code, problem.what, problem.where, problem.hint]))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
