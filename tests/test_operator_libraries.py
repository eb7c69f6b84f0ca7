"""Libraries of custom operators are looked at before any work, and are their content afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from operator_library import SOURCE, compiled

from modelbuild import operator_libraries
from modelbuild.digest import sha256_file
from modelbuild.errors import ConfigError, HostError, PackageError
from modelbuild.operator_libraries import copy_libraries, locate_libraries, verified_libraries
from modelbuild.spec import Session
from modelbuild.stage_spec import LibraryFile


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return compiled(tmp_path / "libmine.so")


def located(*paths: Path | str) -> tuple[LibraryFile, ...]:
    return locate_libraries(Session(custom_ops=tuple(map(str, paths))), sha256_file)


def refused(*paths: Path | str) -> list[str]:
    with pytest.raises((ConfigError, HostError)) as caught:
        located(*paths)
    return caught.value.lines()


def test_libraries_are_known_by_name_and_content_in_order(library: Path, tmp_path: Path) -> None:
    other = compiled(tmp_path / "a.so", factor=2.0)
    assert located(library, other) == tuple(LibraryFile(name=p.name, sha256=sha256_file(p)) for p in (library, other))
    assert located() == ()


def test_a_link_to_a_library_goes_by_its_own_name(library: Path, tmp_path: Path) -> None:
    (tmp_path / "libmine.so.1").symlink_to(library)
    (found,) = located(tmp_path / "libmine.so.1")
    assert found == LibraryFile(name="libmine.so.1", sha256=sha256_file(library))


def test_everything_that_is_no_library_is_told_at_once(library: Path, tmp_path: Path) -> None:
    text, other = tmp_path / "text.so", compiled(tmp_path / "other.so", "int nothing;")
    text.write_text("hello")
    missing, folder, wrong, without = refused(tmp_path / "libmin.so", tmp_path, library, text, other)
    assert missing.startswith("error[CFG]: no such library of custom operators: ")
    assert missing.endswith(f"did you mean '{library}'?")
    assert folder.startswith("error[CFG]: a folder, where a library")
    assert wrong.startswith("error[CFG]: not a shared library: ")
    assert without.startswith("error[CFG]: the library has no function RegisterCustomOps: ")


def test_one_library_under_two_names_is_refused(library: Path, tmp_path: Path) -> None:
    again = Path(shutil.copy(library, tmp_path / "again.so"))
    assert refused(library, again) == [
        f"error[CFG]: '{again}' is the same library as '{library}': session.custom_ops: name it once"
    ]


@pytest.mark.parametrize(
    ("bad", "how"),
    [
        ("__builtin_trap();", "ends the process with SIG"),
        ("extern int puts(const char *); extern void exit(int); exit(3);", "ends the process with exit code 3"),
    ],
)
def test_a_library_that_crashes_takes_only_its_own_process_down(bad: str, how: str, tmp_path: Path) -> None:
    hook = f"__attribute__((constructor)) static void on(void) {{ {bad} }}\n"
    path = compiled(tmp_path / "libbad.so", hook + SOURCE)
    (line,) = refused(path)
    assert line.startswith(f"error[ENV]: loading the library {how}")
    assert line.endswith(f": {path}: compile it for this machine and this release of ONNX Runtime")


def test_a_library_for_a_newer_onnxruntime_is_told_what_there_is(tmp_path: Path) -> None:
    (line,) = refused(compiled(tmp_path / "libnew.so", api=99))
    assert "SIGSEGV: The requested API version [99] is not available" in line


def test_a_library_that_never_loads_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_libraries, "_LOADED_WITHIN_S", 2)
    hook = "extern int pause(void);\n__attribute__((constructor)) static void on(void) { for (;;) pause(); }\n"
    (line,) = refused(compiled(tmp_path / "libwait.so", hook + SOURCE))
    assert line.startswith("error[ENV]: the library is not loaded after 2 s: ")


def test_a_library_that_changed_since_or_is_gone_is_not_used(library: Path, tmp_path: Path) -> None:
    found, inputs = located(library), {"custom_ops/libmine.so": library}
    assert verified_libraries(found, inputs) == (str(library),)
    out = tmp_path / "out"
    out.mkdir()
    assert copy_libraries(found, inputs, out) == ("custom_ops/libmine.so",)
    assert sha256_file(out / "custom_ops" / "libmine.so") == found[0].sha256
    library.write_bytes(library.read_bytes() + b"\0")
    for broken in (inputs, {}, {"custom_ops/libmine.so": tmp_path / "gone"}):
        with pytest.raises(
            PackageError, match=r"libmine\.so changed while it was being built: .*: run the build again"
        ):
            verified_libraries(found, broken)
        with pytest.raises(PackageError, match=r"libmine\.so changed while it was being built: "):
            copy_libraries(found, broken, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_library_is_tried_with_our_modules_and_none_of_the_folder_that_one_stands_in(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json.py", "onnxruntime.py"):
        (tmp_path / name).write_text("raise SystemExit(9)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert [found.name for found in located(library)] == ["libmine.so"]


def test_a_library_that_writes_bytes_and_lines_of_its_own_is_still_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    hook = """
        extern long write(int, const void *, unsigned long);
        __attribute__((constructor)) static void on(void) { write(1, "\\xff\\xfe[1]\\n3\\n", 8); }
        __attribute__((destructor)) static void off(void) { write(1, "[3]\\nbye\\n", 8); }
    """
    (line,) = refused(compiled(tmp_path / "libchatty.so", hook))
    assert line.startswith("error[CFG]: the library has no function RegisterCustomOps: ")
