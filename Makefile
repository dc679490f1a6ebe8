# Nothing but Python 3.11 or newer, make and a package index is needed. Everything lands in .venv.
#
#   make run      drive the official SDK and judge it (ARGUMENTS='-k chunks' for less)    make test   the tests
#   make lint     ruff                                        make types  mypy, strict
#   make languages  drivers in Node and Elixir (not part of `make test`: these two have to be there)
#   make documents  every console block of the README and of docs/, typed    make action  the steps of action.yml
#   make bench    speed, as ratios                         make pythons  what needs no torch, on 3.11 to 3.13
#   make recordings  record real releases for CI          make page   docs/tinkex-0.4.0.html, from a recording
#   make golden   emit the golden traces                      make certify  certify them against real releases

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed.stamp
SDK ?= tinker==0.38.0
ARGUMENTS ?=
RECORDED ?= tinker==0.7.0 tinker==0.15.0 tinker==0.38.0
CERTIFIED ?= tinker-0.7.0 tinker-0.15.0 tinker-0.38.0

.PHONY: help install run test languages documents action lint format types bench pythons golden verify certify recordings page selftest clean

help:
	@sed -n 's/^#   /  /p' Makefile

install: $(STAMP)

# The stamp makes the second time instant; pip runs again when what is to be installed has changed.
$(STAMP): pyproject.toml harness/pytest_plugin/pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
	  for python in "$(PYTHON)" python3 python3.14 python3.13 python3.12 python3.11; do \
	    [ -n "$$python" ] || continue; \
	    "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' \
	      >/dev/null 2>&1 && { found=$$python; break; }; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "make: no Python 3.11 to 3.14 with the venv module found; name one: make PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "creating $(VENV) with $$found"; \
	  "$$found" -m venv $(VENV); \
	fi
	@echo "installing parity and its dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' -e harness/pytest_plugin
	@touch $(STAMP)

run: $(STAMP)
	@$(BIN)/parity run --sdk '$(SDK)' $(ARGUMENTS)

# Two times pytest: what looks at a clock or at a race has the machine for itself.
test: $(STAMP)
	@$(BIN)/python -m pytest -q -m 'not alone' -n auto --maxprocesses 4 --dist worksteal
	@$(BIN)/python -m pytest -q -m alone

# The drivers in other languages: the skeletons, and the example in Node through the whole suite.
languages: $(STAMP)
	@$(BIN)/python -m pytest -q tests/languages
	@$(BIN)/parity run --driver 'node examples/node/driver.mjs' --ledger examples/node/known.toml

# Every command that the README and docs/ print, in the order in which a reader types them. For fewer: DOCUMENTS='-k gate'.
documents: $(STAMP)
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal tests/docs $(DOCUMENTS)

# The GitHub Action, in a scratch checkout of an SDK: installs parity once more, and gates with it.
action: $(STAMP)
	@$(BIN)/python tests/packaging/action_steps.py

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: $(STAMP)
	@$(BIN)/mypy

bench: $(STAMP)
	@$(BIN)/python benchmarks/run.py

# Every Python found here, in an environment without torch: loading, the mock server, judging, reports, help.
pythons: $(STAMP)
	@$(BIN)/python tests/packaging/pythons.py

golden: $(STAMP)
	@$(BIN)/parity golden emit

verify: $(STAMP)
	@$(BIN)/parity golden verify

certify: $(STAMP)
	@$(BIN)/parity certify $(foreach contract,$(CERTIFIED),--contract $(contract))

# What CI judges offline; to be taken again whenever a stimulus has changed.
recordings: $(STAMP)
	@for sdk in $(RECORDED); do \
	  $(BIN)/parity run --sdk "$$sdk" --record "fixtures/recorded/$$(echo "$$sdk" | sed 's/==/-/')" || exit 1; \
	done

# What the HTML report looks like, to be written again whenever the recording, the suite or the page has changed.
page: $(STAMP)
	@$(BIN)/parity check fixtures/recorded/tinkex-0.4.0 --html docs/tinkex-0.4.0.html >/dev/null

selftest: $(STAMP)
	@$(BIN)/parity selftest

clean:
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
