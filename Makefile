# The whole developer interface. `make run` and `make test` make the environment if there is none.
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13,$(shell command -v python$(v) 2>/dev/null)) python3.11)
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: help setup run test check format smoke bench parity constraints clean

help:  ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.stamp  ## make the environment and install

$(VENV)/.stamp: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

run: setup  ## run the default experiment and print where its report lies
	$(BIN)/python -m perturbfm.run

test: setup  ## run the tests (two at a time)
	$(BIN)/python -m pytest -n 2

check: setup  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

smoke: setup  ## only the tests that run the program
	$(BIN)/python -m pytest tests/smoke

bench: setup  ## measure loader, panel and memory (needs PERTURBFM_DATA; PEERS= a python with peers; BENCH= a folder with 3 GB)
	$(BIN)/python benchmarks/panel.py --linear 20000 100000 $(if $(PEERS),--peers $(PEERS))
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/constant_memory.py $(or $(BENCH),outputs/bench) --cells 20000 200000

parity: setup  ## recompute every suite's alias on reference inputs (needs PERTURBFM_PARITY, or ../shared/parity)
	$(BIN)/python -c 'import sys; from perturbfm.cli import main; sys.exit(main(["metrics", "parity"]))'

constraints: setup  ## refresh constraints.txt on purpose; review the diff
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+cpu$$//' > constraints.txt

clean:  ## remove the environment and caches, never results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
