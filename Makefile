# `make run` sets everything up and starts the server; `make test` passes the tests. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run sdks test e2e e2e-all transcripts example torture check fix docs bench bench-full

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev
	@touch $@

setup: $(VENV)/.installed ## install the program into .venv

setup-dev: $(VENV)/.installed-dev ## the same, with what tests and checks need

run: setup ## start the server on ws://127.0.0.1:49134 with its data in ./data
	exec $(BIN)/iii-state serve

# The SDK packages that the tests run, each in an environment of its own. What is there stays.
SDKS := cd tests && ../$(BIN)/python -m e2e.install_sdks

sdks: setup-dev ## install the SDK packages that the tests run, below .cache
	$(SDKS)

test: sdks ## run the tests
	$(BIN)/python -m pytest

e2e: sdks ## run only the tests with real SDK programs
	$(BIN)/python -m pytest tests/e2e

e2e-all: setup-dev ## the same with every SDK version
	$(SDKS) --all
	$(BIN)/python -m pytest tests/e2e -m "not torture"

transcripts: setup-dev ## record anew what SDKs and the server say to each other
	$(SDKS) --all
	cd tests && ../$(BIN)/python -m e2e.record_transcripts

example: sdks ## run examples/weather: a Python and a Node worker on one server
	$(BIN)/python examples/weather/run.py --python .cache/sdk/python/bin/python \
		--node-modules .cache/sdk/node/node_modules

torture: setup-dev ## kill servers for a long time (KILLS=2000) and look for lost writes
	$(BIN)/python -m pytest -m torture

check: setup-dev ## formatting, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup-dev ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup-dev ## write the generated parts of the documentation anew
	$(BIN)/python docs/generate.py

bench: setup-dev ## measure beside Redis and write docs/performance.md (minutes)
	$(BIN)/python -m benchmarks.bench

bench-full: setup-dev ## the same for the whole grid of loads (three quarters of an hour)
	$(BIN)/python -m benchmarks.bench --full
