# Every target sets itself up: a bare clone with Python 3.11+, git and make is enough. Options: PYTHON=python3.12.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo check format test test-all bench

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with everything that development needs

demo: $(READY) ## find blind pairs in the images that ship, offline, on the CPU
	$(BIN)/blindpairs demo --work blindpairs-work

check: $(READY) ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## rewrite the files the way `make check` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(READY) ## the tests, without the slow ones
	$(BIN)/python -m pytest -m "not slow" --ignore=tests/benchmarks

test-all: $(READY) ## every test, with the slow ones
	$(BIN)/python -m pytest --ignore=tests/benchmarks

bench: $(READY) ## measure speed and memory side by side with FAISS; prints the figures
	$(BIN)/python tests/benchmarks/bench_selfjoin.py $(COUNTS)
	$(BIN)/python tests/benchmarks/bench_mine.py
	$(BIN)/python tests/benchmarks/bench_differences.py
	$(BIN)/python tests/benchmarks/bench_ranks.py
	$(BIN)/python tests/benchmarks/bench_training.py
	$(BIN)/python tests/benchmarks/bench_mof_steps.py
	$(BIN)/python tests/benchmarks/bench_selfjoin_gpu.py
	$(BIN)/python -m pytest -s tests/benchmarks

# The stamp is touched last: an installation that was cut short is done again, a finished one costs nothing.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "blindpairs needs Python 3.11 or newer ($(PYTHON) is older or missing): make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "this Python cannot make a virtual environment (on Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e ".[dev]"
	@touch $@
