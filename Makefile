# Two commands: `make demo` sets up and runs the main job, `make test` sets up and runs the whole suite.
# Three test workers, on two cores too: tests wait much for processes of their own (829 s; two took a ninth longer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SUITE ?= tests
WORKERS ?= 3
BENCH ?=
NEWEST ?= .venv-newest
FAMILIES := $(addprefix tests/integration/,test_families_open.py test_patching_families.py test_sweep_families.py test_sealed.py test_trial.py test_peft.py)

export HF_HUB_OFFLINE ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
# Compiled modules are kept: the suite starts hundreds of processes, and each would compile the library anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test pythons newest bench lint docs clean

demo: $(VENV)/.installed
	$(BIN)/workbench demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(SUITE)

# All model families on the newest releases that the index has, in an environment of its own; without upper bounds.
newest: $(BIN)/python
	$(PYTHON) -m venv $(NEWEST)
	$(BIN)/python -m tests.newest > $(NEWEST)/requirements.txt
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --requirement $(NEWEST)/requirements.txt
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(NEWEST)/bin/python -m pip list --disable-pip-version-check | grep -iE "^(torch|transformers|transformer-lens|tokenizers|safetensors|numpy) "
	$(NEWEST)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(FAMILIES)

# The built wheel in an empty environment of each Python from 3.11 on that is here; all tests that need no browser.
pythons: $(VENV)/.installed-test
	$(BIN)/python -m tests.pythons $(SUITE)

# Times beside TransformerLens and beside the least work: make bench BENCH="--quick --json bench.json"
bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.bench $(BENCH)

# The site of docs/ in site/, with the reference of every public name; strict: a dead link is an error.
docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --site-dir site

lint: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet "ruff>=0.9"
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports
	$(BIN)/python -m tests.type_errors

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python %d.%d found, 3.11 or newer needed: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
