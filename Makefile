# Two commands: `make demo` and `make test`. Both set up .venv on first use and need nothing but Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format readme lock clean

demo: .venv/ready
	$(BIN)/quickstudy demo --out demo

test: .venv/ready
	$(BIN)/python -m pytest -n 2

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

readme: .venv/ready
	$(BIN)/python -m quickstudy.claims_table
	$(BIN)/python -m quickstudy.claims_figure

# All versions are locked in constraints.txt; `make lock` writes it anew from what pyproject.toml allows (with a CPU build of PyTorch,
# if pip finds one first: it is for the benchmarks' peers only).
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "quickstudy needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

lock:
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf .venv demo runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
