"""Words of a command by argparse, whose errors become ours."""

from __future__ import annotations

import argparse
from typing import Never

from modelbuild.errors import ConfigError

PACKAGE = "its folder, or registry:NAME[@RANGE|#STAGE]"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ConfigErrors that say where to look it up."""

    def error(self, message: str) -> Never:
        """Raise `message`."""
        raise ConfigError(message, hint=f"see {self.prog} --help")
