"""`python -m modelbuild`."""

import os
import sys

from modelbuild.cli import main

if __name__ == "__main__":
    code = main()
    if sys.argv[1:2] == ["stage"]:
        # What a stage writes is published and journaled by now. To take its libraries apart object by object would be a
        # tenth of its time.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)
