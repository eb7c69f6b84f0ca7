from __future__ import annotations

import ast
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from user_modules import HEAD, located, source_of, write_module, write_net

import modelbuild
from modelbuild.errors import ExportError
from modelbuild.module_code import OURS, code_of_file, code_of_package
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


def test_libraries_in_the_folder_of_an_import_path_are_not_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "", name="own_numbers/__init__.py")
    write_module(tmp_path, "import numpy\nimport safetensors\nimport loose\n", name="own_numbers/net.py")
    write_module(tmp_path, "", name="loose.py")
    (tmp_path / "numpy").symlink_to(Path(np.__file__).parent)
    write_module(tmp_path, "", name="safetensors/__init__.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    code = code_of_package("own_numbers.net")
    assert set(code.files) == {"own_numbers/__init__.py", "own_numbers/net.py", "loose.py"}
    assert code.libraries.keys() == {"numpy", "safetensors"}


def test_a_library_that_a_file_finds_beside_itself_by_a_link_is_not_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "numpy").symlink_to(Path(np.__file__).parent)
    code = code_of_file(write_module(tmp_path, "import numpy\n"))
    assert (code.files, set(code.libraries)) == (("mine.py",), {"numpy"})


def test_a_file_beside_it_goes_before_a_library_of_its_name(tmp_path: Path) -> None:
    write_module(tmp_path, "", name="iniconfig.py")
    assert code_of_file(write_module(tmp_path, "import iniconfig\n")).files == ("mine.py", "iniconfig.py")


def test_what_comes_from_no_distribution_is_refused_for_nobody_sees_it_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "", name="elsewhere/on_the_path.py")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    path = write_module(tmp_path, "import layers\nimport perhaps_not_there\n")
    write_module(tmp_path, "def late():\n    import on_the_path\n", name="layers.py")
    with pytest.raises(
        ExportError,
        match=r"it imports 'on_the_path', whose changes would not be seen: .*/layers\.py: put it beside the file",
    ):
        code_of_file(path)


def test_what_is_installed_to_be_edited_is_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "from .layers import Layer\n", name="site/edited_parts/__init__.py")
    write_module(tmp_path, "class Layer:\n    pass\n", name="site/edited_parts/layers.py")
    record = tmp_path / "site" / "edited_parts-1.0.dist-info"
    write_module(record, "Metadata-Version: 2.1\nName: edited-parts\nVersion: 1.0\n", name="METADATA")
    write_module(record, json.dumps({"url": "file:///", "dir_info": {"editable": True}}), name="direct_url.json")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    path = write_module(tmp_path, "import edited_parts\n")
    first, again = code_of_file(path), code_of_file(path)
    assert first == again
    assert first.libraries["edited-parts"] == "1.0"
    write_module(tmp_path, "class Layer:\n    more = 1\n", name="site/edited_parts/layers.py")
    assert code_of_file(path).libraries != first.libraries
    assert set(code_of_package("edited_parts").files) == {"edited_parts/__init__.py", "edited_parts/layers.py"}
    (record / "direct_url.json").unlink()
    assert code_of_file(path).libraries == {"edited-parts": "1.0"}


def test_an_import_path_may_go_through_folders_without_an_init_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "", name="own_space/deep/net.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    code = code_of_package("own_space.deep.net")
    assert (code.folder, code.files) == (tmp_path, ("own_space/deep/net.py",))
    with pytest.raises(ExportError, match=r"'own_space' has no __init__\.py to import: model\.source\.import_path"):
        code_of_package("own_space")


@pytest.mark.parametrize("library", ["torch.nn", "transformers", "numpy", "modelbuild.graph"])
def test_an_import_path_into_a_library_that_modelbuild_runs_with_is_refused(library: str) -> None:
    with pytest.raises(ExportError, match=r"is a library that modelbuild itself runs with: .*: give a function"):
        code_of_package(library)


@pytest.mark.slow
def test_all_libraries_that_modelbuild_runs_with_are_known() -> None:
    files = Path(modelbuild.__file__).parent.rglob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_bytes()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= OURS | sys.stdlib_module_names


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
    pinned = located(source_of(path, digests={"mine.py": digest}))
    for sidecars in (False, True):
        assert pinned.subset(source_of(path), weights=True, sidecars=sidecars) == located(source_of(path)).subset(
            source_of(path), weights=True, sidecars=sidecars
        )
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
