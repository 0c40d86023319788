# Everything sets itself up: `make test` and `make demo` are enough on a fresh Debian or Ubuntu.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
PYTHON := $(VENV)/bin/python
# Base images and namespaces need root; without sudo, what needs root is skipped, saying so.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || command -v sudo || true)
# More than the processors of small machines: the tests wait more for other programs than they compute.
WORKERS ?= 3
RUNS ?= 3
PLACE ?= disk

.PHONY: help
help: ## Show these lines
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 22

.PHONY: setup
setup: $(VENV)/.ready ## Install Debian's packages and a virtual environment

.PHONY: packages
packages:
	@integration/setup.sh

# Made anew where the project's own dependencies changed.
$(VENV)/.ready: pyproject.toml | packages
	@"$$(integration/python.sh)" -m venv --clear $(VENV)
	@$(VENV)/bin/pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

.PHONY: lint
lint: setup ## Check style and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy benchmarks integration/demo.py integration/image.py docs/reference.py
	$(PYTHON) -m mypy deploy

.PHONY: unit
unit: setup ## Run the tests that need nothing but Python
	$(PYTHON) -m pytest tests -n $(WORKERS) -q

.PHONY: integration
integration: setup ## Run the tests against real registries, images and runtimes (as root)
	$(AS_ROOT) $(PYTHON) -m pytest integration -n $(WORKERS) --dist worksteal -q

.PHONY: test
test: lint unit integration ## Run everything above

.PHONY: demo
demo: setup ## Warm a base image, build an example, push it, build it again, run it (as root)
	@$(AS_ROOT) $(PYTHON) -m integration.demo

.PHONY: image
image: setup ## Build our images with our own executor, and again with one of them, in place (as root)
	@$(AS_ROOT) $(PYTHON) -m integration.image

.PHONY: bench
bench: setup ## Compare with buildah and the limit; RUNS=3, SCENARIO=names, PLACE=memory (as root)
	$(AS_ROOT) $(PYTHON) -m benchmarks --runs $(RUNS) --place $(PLACE) $(addprefix --scenario ,$(SCENARIO))

.PHONY: clean
clean: ## Remove the virtual environment and everything that was made
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist *.egg-info
