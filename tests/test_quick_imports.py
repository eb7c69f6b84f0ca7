"""What is imported quickly is what is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from modelbuild.quick_imports import _look_at_models_once, _name_the_line

QUICKLY = "from modelbuild.quick_imports import import_quickly; import_quickly(); import_quickly()\n"
NAMES = """
import json, sys, transformers, transformers.models
print(json.dumps([len([f for f in sys.meta_path if type(f).__name__ == "_Finder"]),
    sorted(dir(transformers)), sorted(dir(transformers.models)), transformers.BertConfig.__name__,
    transformers.models.bert.configuration_bert.__name__]))
"""


def _printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_transformers_has_every_name() -> None:
    (quick, *names), (plain, *wanted) = json.loads(_printed(QUICKLY + NAMES)), json.loads(_printed(NAMES))
    assert names == wanted
    assert len(names[0]) > 1000
    assert (quick, plain) == (1, 0)


def test_sizes_are_computed_with_when_they_are() -> None:
    printed = _printed(
        QUICKLY + "import sys, onnx_ir\n"
        "print('sympy.core' in sys.modules, onnx_ir.SymbolicDim('n').value, 'sympy.core' in sys.modules)\n"
        "print((onnx_ir.SymbolicDim('n') + 2).value, 'sympy.core' in sys.modules)\n"
    )
    assert printed.split() == ["False", "n", "False", "n", "+", "2", "True"]


def test_a_module_that_is_not_there_is_still_not_there() -> None:
    program = QUICKLY + "import sys\nsys.path[:] = []\ntry:\n    import sympy\nexcept ImportError as error:\n"
    assert _printed(program + "    print(error.name)") == "sympy\n"


@pytest.mark.parametrize(
    "content",
    ["", "x = 1\n", "__all__ = ['A']\n", "x = 1\n__all__ = ['A', 'B']\n", "__all__ = ['A']\ny = '''\n__all__ = ['B']\n",
     "x = '__all__'\n", "__all__ = [\n    'A',\n    'B',\n]\nz = 1\n"],
)  # fmt: skip
def test_names_are_found_where_transformers_finds_them(content: str) -> None:
    from transformers.utils import import_utils

    look = getattr(import_utils.fetch__all__, "__wrapped__", import_utils.fetch__all__)
    module = SimpleNamespace(fetch__all__=look, create_import_structure_from_path=None)
    _look_at_models_once(module)
    assert module.fetch__all__(content) == look(content)


def test_a_version_that_looks_once_is_left_alone() -> None:
    def look(path: str) -> str:
        return path

    module = SimpleNamespace(fetch__all__=len, create_import_structure_from_path=look)
    _look_at_models_once(module)
    assert module.create_import_structure_from_path is look


def test_the_line_is_the_one_that_torch_names() -> None:
    from torch._library import utils

    module = SimpleNamespace(get_source=utils.get_source)
    _name_the_line(module)
    found, wanted = module.get_source(1), utils.get_source(1)
    assert found == wanted
    assert found.startswith(__file__)
