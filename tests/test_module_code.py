from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from user_modules import HEAD, located, source_of, write_module, write_net

from modelbuild.errors import ExportError
from modelbuild.module_code import code_of_file, code_of_package
from modelbuild.stage_spec import ModuleFiles


def files_of(folder: Path, **settings: object) -> ModuleFiles:
    model = located(source_of(folder / "mine.py", **settings)).subset(
        source_of(folder / "mine.py"), weights=True, sidecars=False
    )
    assert isinstance(model.source, ModuleFiles)
    return model.source


def test_code_is_the_file_and_what_it_imports_from_beside_itself(tmp_path: Path) -> None:
    main = write_module(tmp_path, "import layers\nfrom parts import heads\nimport numpy, torch.nn\nimport random\n")
    write_module(tmp_path, "def late():\n    import deeper\n", name="layers.py")
    write_module(tmp_path, "", name="deeper.py")
    write_module(tmp_path, "from . import tails\n", name="parts/__init__.py")
    for name in ("parts/heads.py", "parts/tails.py", "not_imported.py", "random.py"):
        write_module(tmp_path, "", name=name)
    code = code_of_file(main)
    assert set(code.files) == {
        "mine.py", "layers.py", "deeper.py", "parts/__init__.py", "parts/heads.py", "parts/tails.py",
    }  # fmt: skip
    assert code.libraries.keys() == {"numpy", "torch"}


def test_a_package_without_an_init_file_is_followed_too(tmp_path: Path) -> None:
    write_module(tmp_path, "", name="parts/heads.py")
    assert code_of_file(write_module(tmp_path, "from parts.heads import x\n")).files == ("mine.py", "parts/heads.py")


def test_an_import_path_is_found_and_nothing_of_it_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, "raise SystemExit('run')\n", name="own_package/__init__.py")
    write_module(tmp_path, "from .layers import Layer\nraise SystemExit('run')\n", name="own_package/net.py")
    write_module(tmp_path, "", name="own_package/layers.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    code = code_of_package("own_package.net")
    assert (code.folder, code.main) == (tmp_path, "own_package/net.py")
    assert set(code.files) == {"own_package/net.py", "own_package/__init__.py", "own_package/layers.py"}
    assert not [name for name in sys.modules if name.startswith("own_package")]


def test_the_same_code_elsewhere_is_the_same_module_and_changed_code_another(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_module(first, HEAD, "import layers\n")
    write_module(first, "", name="layers.py")
    shutil.copytree(first, second)
    assert files_of(first) == files_of(second)
    write_module(second, "# another line\n", name="layers.py")
    assert files_of(first) != files_of(second)


def test_a_pinned_digest_is_checked(tmp_path: Path) -> None:
    path = write_net(tmp_path)
    digest = files_of(tmp_path).files["mine.py"]
    located(source_of(path, digests={"mine.py": digest}))
    with pytest.raises(ExportError, match=r"mine\.py is not the pinned file: expected sha256 0000"):
        located(source_of(path, digests={"mine.py": "0" * 64}))


BAD = {
    "mine.py": (r"no such file: .*/mine\.py: did you mean '.*/mime\.py'\?", {"mime.py": ""}),
    "folder": (
        r"a folder, where a Python file is wanted: .*/folder: did you mean '.*/net\.py'\?",
        {"folder/net.py": ""},
    ),
    "mine.txt": (r"not a Python file: .*mine\.txt: its name must end in \.py", {"mine.txt": ""}),
    "net.py": (r"not valid Python: expected ':': .*/net\.py line 2: correct it", {"net.py": "x = 1\ndef f()\n"}),
    "two.py": (r"not valid Python: .*/layers\.py line 1", {"two.py": "import layers\n", "layers.py": "class\n"}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_taken_is_refused_by_name(name: str, tmp_path: Path) -> None:
    message, files = BAD[name]
    for file, text in files.items():
        write_module(tmp_path, text, name=file)
    with pytest.raises(ExportError, match=message):
        located(source_of(tmp_path / name))


@pytest.mark.parametrize(
    ("import_path", "message"),
    [
        ("no_such_package.net", "there is no Python module 'no_such_package' to import: model.source.import_path"),
        ("own_parts.nett", r"the Python package 'own_parts' has no module 'own_parts\.nett': .*'own_parts\.net'\?"),
    ],
)
def test_an_import_path_that_is_not_there_is_refused(
    import_path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("own_parts/__init__.py", "own_parts/net.py"):
        write_module(tmp_path, "", name=name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ExportError, match=message):
        located(source_of(None, import_path=import_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights.safetensor", r"no such file: .*weights\.safetensor: did you mean '.*/weights\.safetensors'\?"),
        ("weights.bin", r"not a safetensors file: .*/weights\.bin"),
    ],
)
def test_a_file_of_weights_that_cannot_be_taken_is_refused(name: str, message: str, tmp_path: Path) -> None:
    for file in ("weights.safetensors", "weights.bin"):
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(ExportError, match=message):
        located(source_of(write_net(tmp_path), weights=str(tmp_path / name)))
