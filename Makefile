# `make check` is what a change has to pass; `make docs` brings the generated texts up to date.
PYTHON ?= python

.PHONY: check lint format test docs

check: lint test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

test:
	$(PYTHON) -m pytest -n auto --dist worksteal

docs:
	$(PYTHON) docs/refresh.py
	$(PYTHON) notebooks/refresh_notebooks.py
