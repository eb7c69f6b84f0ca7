from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnxruntime as ort
import pytest

from modelbuild import cli
from modelbuild.cli import main

MINE = "name: mine\nsource: {kind: init, architecture: BertModel}\n"
WRONG = [
    (["plna"], "error[CFG]: there is no command 'plna': did you mean 'plan'?"),
    (["wy", "opset=17"], "error[CFG]: there is no command 'wy': did you mean 'why'?"),
    (["frobnicate"], "error[CFG]: there is no command 'frobnicate': choose one of diff, gc, inspect, package, plan, "),
    (["opset=99"], "error[CFG]: there is no opset=99: overrides: choose one of 17, 18, 20, 21, 23, auto"),
    (["opest=17"], "error[CFG]: there is no key 'opest': overrides: did you mean 'opset'?"),
    (["+opest=17"], "error[CFG]: there is no key 'opest': overrides: did you mean 'opset'?"),
    (["model=brt"], "error[CFG]: there is no model=brt: overrides: did you mean 'bert'?"),
    (["-m", "opset=17,99"], "error[CFG]: there is no opset=99: overrides: choose one of 17, 18, 20, 21, 23, auto"),
    (["model=path"], "error[CFG]: required, and not given: model.source.path: set model.source.path=…"),
    (["session.allow_spinning=1"], "error[CFG]: input should be a valid boolean, got 1: session.allow_spinning"),
    (["opset=17", "plan"], "error[CFG]: Error parsing override 'plan'"),
    (["hydra/launcher=nope"], "error[CFG]: In 'hydra/config': Could not find 'hydra/launcher/nope'"),
    (["opset=17,18"], "error[CFG]: Ambiguous value for argument 'opset='17','18''"),
    (["plan", "opset=99"], "error[CFG]: there is no opset=99: overrides: choose one of 17, 18, 20, 21, 23, auto"),
    (["plan", "foo"], "error[CFG]: not an override: 'foo': write key=value"),
    (["why", "opest=17"], "error[CFG]: there is no key 'opest': overrides: did you mean 'opset'?"),
    (
        ["--cfg", "job", "opset=99"],
        "error[CFG]: there is no opset=99: overrides: choose one of 17, 18, 20, 21, 23, auto",
    ),
    (["gc", "--drry"], "error[CFG]: unrecognized arguments: --drry: see python -m modelbuild gc --help"),
    (["stage", "exprt"], "error[CFG]: there is no stage 'exprt': choose one of export, sidecar, optimize, "),
    (["compose", "nope"], "error[CFG]: compose takes the name of a declared build: "),
]
no_tensorrt = pytest.mark.skipif(
    "TensorrtExecutionProvider" in ort.get_available_providers(), reason="this ONNX Runtime has TensorRT"
)


@pytest.fixture(autouse=True)
def _hydra_leaves_nothing_behind(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty workspace; and the arguments, environment and log handlers of this process as they were before."""
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def failed(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The exit code, and the lines on standard error; there are none on standard output."""
    code = main(words)
    printed = capsys.readouterr()
    assert printed.out == ""
    return code, printed.err.splitlines()


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_configuration_is_one_line_exit_2_and_creates_nothing(
    words: list[str], line: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = failed(*words, capsys=capsys)
    assert code == 2
    assert [found[: len(line)] for found in lines] == [line]
    assert not any(workspace.iterdir())


def test_every_problem_is_a_line_of_its_own(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = failed("-m", "opset=17,abc", "modle=bert", "task=fill-maks", "x.y=1", capsys=capsys)
    assert (code, len(lines)) == (2, 4)
    assert all(line.startswith("error[CFG]: there is no ") for line in lines)
    assert not any(workspace.iterdir())


def test_a_sweep_with_a_bad_job_says_so_before_any_job_starts(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = failed("-m", "model=bert-tiny", "exporter=dynamo,optimum", "opset=21", capsys=capsys)
    assert code == 2
    assert len(lines) == 1
    assert "job 1 (model=bert-tiny,exporter=optimum,opset='21')" in lines[0]
    assert not any(workspace.iterdir())


@no_tensorrt
@pytest.mark.parametrize("words", [["providers=tensorrt"], ["model=bert-tiny", "providers=tensorrt", "opset=18"]])
def test_a_provider_that_this_machine_lacks_is_exit_7_before_anything_is_made(
    words: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = failed(*words, capsys=capsys)
    assert code == 7
    assert len(lines) == 1
    assert lines[0].startswith("error[ENV]: TensorrtExecutionProvider is not available: onnxruntime ")
    assert "it needs the onnxruntime-gpu wheel" in lines[0]
    assert "TensorRT" in lines[0]
    assert not (workspace / "artifacts").exists()


@no_tensorrt
def test_jobs_of_a_sweep_that_this_machine_cannot_do_are_in_one_table_and_exit_8(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["-m", "model=bert-tiny", "providers=tensorrt", "opset=choice(17)"])
    printed = capsys.readouterr()
    assert code == 8
    assert printed.err.splitlines()[-1].startswith("error[SWP]: 1 of 1 jobs failed: 0: ")
    assert printed.out.split()[:3] == ["job", "overrides", "result"]
    assert printed.out.count("error[ENV]: TensorrtExecutionProvider is not available") == 1
    assert "(modelbuild[gpu]" in printed.out
    assert not (workspace / "artifacts" / "adhoc").exists()


def test_a_source_that_is_not_there_is_exit_3(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = failed("plan", "model=path", "model.source.path=brt", capsys=capsys)
    assert (code, lines) == (3, [f"error[EXP]: no such folder: {workspace}/brt: check model.source"])


def test_a_graph_that_is_not_there_or_no_graph_is_exit_3(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "model=bert-tiny", "exporter=file", "exporter.path=theirs.onnx"]
    line = f"error[EXP]: no such file: {workspace}/theirs.onnx: check exporter.path"
    assert failed(*words, capsys=capsys) == (3, [line])
    (workspace / "theirs.onnx").write_bytes(b"PK\x03\x04")
    code, lines = failed(*words, capsys=capsys)
    assert (code, len(lines)) == (3, 1)
    assert lines[0].startswith("error[EXP]: an archive, as PyTorch writes it, not an ONNX file: ")


def test_a_user_file_of_another_encoding_is_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "conf" / "model").mkdir(parents=True)
    (workspace / "conf" / "model" / "mine.yaml").write_bytes(b"\xff\xfe")
    code, lines = failed("model=mine", capsys=capsys)
    assert code == 2
    assert [line.startswith("error[CFG]: 'utf-8' codec can't decode") for line in lines] == [True]


@pytest.mark.parametrize("debug", ["--debug", "debug=true"])
def test_debug_shows_the_traceback_and_the_line(debug: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = failed("opset=99", debug, capsys=capsys)
    assert code == 2
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "error[CFG]: there is no opset=99: overrides: choose one of 17, 18, 20, 21, 23, auto"


class Broken:
    """A command that fails with what it is told to."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def run(self, words: list[str]) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "error[INT]: interrupted: run it again to go on"),
        (PermissionError(13, "Permission denied", "/x"), 7, "error[ENV]: Permission denied: /x: free or permit it"),
        (LookupError("one\ntwo"), 1, "error[ERR]: LookupError: one two: a bug in modelbuild: run it with --debug"),
    ],
)
def test_whatever_goes_wrong_is_one_line_and_no_traceback(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, cli.COMMANDS["plan"], Broken(error))
    found, lines = failed("plan", capsys=capsys)
    assert found == code
    assert [item[: len(line)] for item in lines] == [line]


def test_a_library_that_is_not_installed_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "plan", "not_installed_anywhere")
    code, lines = failed("plan", capsys=capsys)
    assert code == 7
    assert lines[0].startswith("error[ENV]: 'not_installed_anywhere' is not installed: ")
    assert lines[0].endswith("(or [build,gpu]); registry, verify, sign and package need it not")


@pytest.mark.parametrize("words", [["--cfg", "job"], ["--cfg", "job", "opset=17", "model=bert-tiny"]])
def test_cfg_prints_the_composed_configuration_and_builds_nothing(
    words: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f"opset:\n  version: {17 if 'opset=17' in words else 20}\n" in out
    assert ("name: bert-tiny" if len(words) > 2 else "name: minilm") in out
    assert not any(workspace.iterdir())


def test_help_shows_groups_keys_and_exit_codes(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert not ended.value.code
    out = capsys.readouterr().out
    assert "python -m modelbuild [group=choice | key=value]..." in out
    assert "model: bart-tiny, bert, bert-tiny, clip-tiny, distilbert, " in out
    assert "intra_op_num_threads: 0" in out
    assert "5 validation failed" in out
    assert not any(workspace.iterdir())


def test_info_shows_where_configuration_comes_from(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "conf" / "model").mkdir(parents=True)
    (workspace / "conf" / "model" / "mine.yaml").write_text(MINE)
    assert main(["--info", "searchpath"]) == 0
    out = capsys.readouterr().out
    assert out.index(f"file://{workspace}/conf") < out.index("| main ")


def test_shell_completion_is_hydras(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["-sc", "install=bash"]) == 0
    assert "complete -o nospace -o default -F hydra_bash_completion" in capsys.readouterr().out
    monkeypatch.setenv("COMP_LINE", "modelbuild model=bert")
    monkeypatch.setenv("COMP_POINT", "21")
    assert main(["--shell-completion", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == ["model=bert", "model=bert-tiny"]


def test_a_stage_reaches_no_hub_whatever_the_environment_says(tmp_path: Path) -> None:
    program = (
        "from modelbuild.cli import main\nassert main(['stage', 'export'])\n"
        "import huggingface_hub.constants\nprint(huggingface_hub.constants.HF_HUB_OFFLINE)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(workspace: Path) -> None:
    command = [sys.executable, "-m", "modelbuild", "--help"]
    with subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
