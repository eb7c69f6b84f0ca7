"""`python -m modelbuild`."""

from modelbuild.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
