# Nothing but Python 3.11 or newer, make and a package index is needed. Everything lands in .venv.
#
#   make run      drive the official SDK and judge it         make test   the tests
#   make lint     ruff                                        make types  mypy, strict
#   make bench    speed, as ratios                         make pythons  what needs no torch, on 3.11 to 3.13
#   make golden   emit the golden traces                      make certify  certify them against real releases

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed.stamp
SDK ?= tinker==0.38.0
CERTIFIED ?= tinker-0.7.0 tinker-0.15.0 tinker-0.38.0

.PHONY: help install run test lint format types bench pythons golden verify certify selftest clean

help:
	@sed -n 's/^#   /  /p' Makefile

install: $(STAMP)

# The stamp makes the second time instant; pip runs again when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
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
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

run: $(STAMP)
	@$(BIN)/parity run --sdk '$(SDK)'

test: $(STAMP)
	@$(BIN)/python -m pytest -q

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

selftest: $(STAMP)
	@$(BIN)/parity selftest

clean:
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
