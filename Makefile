# Each target sets up what it needs, once: the stamps are renewed when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv-test
DEMO_VENV ?= .venv-demo
PIP = -m pip install -qq --disable-pip-version-check -c constraints.txt

.PHONY: test test-all lint demo wheel clean

test: lint
	$(VENV)/bin/python -m pytest -m "not slow"

test-all: lint
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

demo: $(DEMO_VENV)/.stamp
	$(DEMO_VENV)/bin/python benchmarks/demo.py

wheel: $(VENV)/.stamp
	$(VENV)/bin/python -m build --wheel --no-isolation --outdir dist .

clean:
	rm -rf $(VENV) $(DEMO_VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests training benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.stamp: pyproject.toml constraints.txt
	$(call venv,$(VENV))
	@echo "Installing mz with its tests and PyTorch into $(VENV) ..."
	@$(VENV)/bin/python $(PIP) -e '.[qft,dev]'
	@touch $@

$(DEMO_VENV)/.stamp: pyproject.toml constraints.txt
	$(call venv,$(DEMO_VENV))
	@echo "Installing mz into $(DEMO_VENV) ..."
	@$(DEMO_VENV)/bin/python $(PIP) -e .
	@touch $@

define venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "mz needs Python 3.10 or newer: make PYTHON=...")'
@$(PYTHON) -m venv $(1) || { echo "$(PYTHON) cannot make a virtual environment (Debian: install python3-venv)"; exit 1; }
endef
