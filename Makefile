# `make help` lists the targets. Each target sets up what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[offline,dev]'
	@touch $@

setup: $(READY)  ## make the virtual environment in .venv

demo: $(READY)  ## search the docstrings of Python's standard library
	$(BIN)/connector demo

test: lint types $(READY)  ## lint, check types and run the tests
	$(BIN)/pytest --numprocesses 2 --dist loadscope

test-slow: $(READY)  ## the long tests
	$(BIN)/pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)  ## run every benchmark; each prints ratios against its peer
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## remove the virtual environment and what the demo made
	rm -rf $(VENV) demo-qdrant *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
