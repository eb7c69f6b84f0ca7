from __future__ import annotations

import pickle
import re

import pytest

from modelbuild import errors
from modelbuild.errors import (
    ClosedError,
    ConfigError,
    ExportError,
    HostError,
    InputError,
    Interrupted,
    ModelbuildError,
    OptimizeError,
    PackageError,
    Problem,
    SweepError,
    ValidationError,
    by_code,
    first_line,
    unforeseen,
)

CONTRACT: dict[type[ModelbuildError], int] = {
    ConfigError: 2,
    ExportError: 3,
    OptimizeError: 4,
    ValidationError: 5,
    PackageError: 6,
    HostError: 7,
    SweepError: 8,
    Interrupted: 130,
}
CLASSES = ModelbuildError.__subclasses__()
# Raised by a loaded model, and an exit code of `python -m modelbuild.runtime` alone.
OF_THE_RUNTIME = (InputError, ClosedError)


def test_a_line_says_what_where_and_what_to_do() -> None:
    error = ExportError("no weights", where="bert", hint="choose another task")
    assert error.lines() == ["error[EXP]: no weights: bert: choose another task"]
    assert str(error) == "no weights: bert: choose another task"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (HostError("no disk"), "error[ENV]: no disk"),
        (HostError("no disk", where="/tmp"), "error[ENV]: no disk: /tmp"),
        (HostError("no disk", hint="buy one"), "error[ENV]: no disk: buy one"),
    ],
)
def test_parts_that_are_not_known_leave_no_gap(error: ModelbuildError, line: str) -> None:
    assert error.lines() == [line]


def test_a_message_of_many_lines_becomes_one_line() -> None:
    error = PackageError("cannot open:\n  protobuf\r\n\tfailed", where="a\nb", hint=" try\n\nagain ")
    assert error.lines() == ["error[PKG]: cannot open: protobuf failed: a b: try again"]


def test_collected_has_a_line_per_problem_in_order_and_without_repeats() -> None:
    first, second = Problem("b is wrong", "b", "use 1"), Problem("a is wrong")
    error = ConfigError.collected([first, second, first])
    assert error.lines() == ["error[CFG]: b is wrong: b: use 1", "error[CFG]: a is wrong"]
    assert str(error) == "b is wrong: b: use 1; a is wrong"


def test_exit_codes_are_the_contract() -> None:
    assert {cls: cls.exit_code for cls in CLASSES if cls not in OF_THE_RUNTIME} == CONTRACT


def test_exit_codes_and_codes_are_unique() -> None:
    assert len({cls.exit_code for cls in CLASSES if cls not in OF_THE_RUNTIME}) == len(CONTRACT)
    assert {cls.exit_code for cls in OF_THE_RUNTIME} == {1}
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)
    assert 0 not in {cls.exit_code for cls in CLASSES}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+) +(\d+) +([A-Z]{3}) ", str(errors.__doc__))
    assert drawn == [(cls.__name__, str(cls.exit_code), cls.code) for cls in CLASSES]
    assert not [cls for cls in CLASSES if cls.__subclasses__()]


@pytest.mark.parametrize("cls", CLASSES)
def test_by_code_finds_every_class(cls: type[ModelbuildError]) -> None:
    assert by_code(cls.code) is cls


def test_by_code_of_an_interruption_and_of_a_code_that_is_not_ours() -> None:
    assert by_code("INT") is Interrupted
    assert by_code("XYZ") is ModelbuildError


def test_an_error_crosses_a_process_with_its_problems() -> None:
    error = ConfigError.collected([Problem("a", "b", "c"), Problem("d")])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ConfigError
    assert (copy.problems, str(copy)) == (error.problems, str(error))


def test_wrong_inputs_are_a_value_error_too() -> None:
    assert issubclass(InputError, ValueError)


def test_an_error_of_the_operating_system_is_the_host_with_the_file() -> None:
    error = unforeseen(PermissionError(13, "Permission denied", "/data/model.onnx"))
    assert isinstance(error, HostError)
    assert error.lines()[0].startswith("error[ENV]: Permission denied: /data/model.onnx: ")
    assert (
        unforeseen(OSError(28, "No space left on device"))
        .lines()[0]
        .startswith("error[ENV]: No space left on device: ")
    )


def test_any_other_error_is_a_bug_and_says_how_to_see_it() -> None:
    error = unforeseen(KeyError("opset"))
    assert (type(error), error.exit_code) == (ModelbuildError, 1)
    assert error.lines() == ["error[ERR]: KeyError: 'opset': a bug in modelbuild: run it with --debug to see where"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  \n one \ntwo"), "one"),
        (ValueError(""), "ValueError"),
        (AssertionError(), "AssertionError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_the_first_line_of_an_error_is_never_empty(error: Exception, line: str) -> None:
    assert first_line(error) == line
