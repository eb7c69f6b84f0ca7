# `make check` before every commit: format, lint, types, fast tests.
check:
	ruff format .
	ruff check .
	mypy
	python -m pytest -m "not slow"

.PHONY: check
