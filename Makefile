# Needs Python >= 3.11 (below 3.14) and make. `make quickstart`, `make test`, `make lint`, `make bench`, `make clean`.

VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
RIGHT_PYTHON := 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c $(RIGHT_PYTHON) 2>/dev/null && { echo $$p; break; }; done)
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/gpu_%,$(wildcard benchmarks/*.py))
PYTEST_ARGS ?=
WORKERS ?= 2

export HF_HUB_OFFLINE ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export RAY_USAGE_STATS_ENABLED ?= 0
export DO_NOT_TRACK ?= 1

.PHONY: quickstart test lint format bench clean

quickstart: $(VENV)/.installed
	$(BIN)/medsynth run sweeps/quickstart.yaml --yes

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	@failed=0; for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python $$file --check || failed=1; done; exit $$failed

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "medsynth-ray needs Python 3.11, 3.12 or 3.13 with the venv module (Debian: apt install python3-venv);" \
		"none was found as python3 on the PATH. Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Installed again only when what is to be installed has changed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
