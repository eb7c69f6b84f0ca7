"""The command line: the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Protocol, cast

from modelbuild import __version__
from modelbuild.errors import ConfigError, HostError, Interrupted, ModelbuildError, unforeseen
from modelbuild.suggest import did_you_mean

# Loaded only when asked for: a command that needs no Hydra must not pay for it.
COMMANDS: dict[str, str] = {
    "plan": "modelbuild.commands.plan",
    "why": "modelbuild.commands.why",
    "gc": "modelbuild.commands.gc",
    "inspect": "modelbuild.commands.inspect",
    "registry": "modelbuild.commands.registry",
    "verify": "modelbuild.commands.verify",
    "diff": "modelbuild.commands.diff",
    "package": "modelbuild.commands.package",
    "sign": "modelbuild.commands.sign",
    "compose": "modelbuild.commands.compose",
    "stage": "modelbuild.commands.stage",
}
# What a shell says of a command that SIGPIPE ended.
_BROKEN_PIPE = 141
_BUILD = "modelbuild.commands.build"
_INTERNAL = ("compose", "stage")

# Nothing that we start phones home, unless the user's environment says so.
_QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}


class Command(Protocol):
    """What a command module has: `run` takes the words after the command and returns the exit code."""

    def run(self, words: list[str]) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (those of the process, by default) ask for, and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    debug = any(word.lower() in ("--debug", "debug=true") for word in words)
    try:
        code = _dispatch([word for word in words if word != "--debug"])
        sys.stdout.flush()  # here, and not when Python ends, so that a closed pipe is noticed
        return code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is becomes a line
        if debug:
            traceback.print_exc()
        known = _known(error)
        print(*known.lines(), sep="\n", file=sys.stderr)
        return known.exit_code


def _known(error: Exception | KeyboardInterrupt) -> ModelbuildError:
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted", hint="run it again to go on")
    return error if isinstance(error, ModelbuildError) else unforeseen(error)


def _dispatch(words: list[str]) -> int:
    if words == ["--version"]:
        print(f"modelbuild {__version__}")
        return 0
    if words and words[0] in COMMANDS:
        return _command(COMMANDS[words[0]]).run(words[1:])
    if words and "=" not in words[0] and not words[0].startswith(("-", "~")):
        known = [name for name in COMMANDS if name not in _INTERNAL]
        raise ConfigError(f"there is no command '{words[0]}'", hint=did_you_mean(words[0], known))
    return _command(_BUILD).run(words)


def _command(module: str) -> Command:
    try:
        return cast(Command, importlib.import_module(module))
    except ModuleNotFoundError as error:
        if str(error.name).startswith("modelbuild"):
            raise
        raise HostError(
            f"'{error.name}' is not installed",
            where=sys.executable,
            hint="pip install 'modelbuild[build,cpu]' (or [build,gpu]); registry, verify, sign and package need it not",
        ) from error
