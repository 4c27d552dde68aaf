# Everything a learner or an author runs. Each target needs Python 3.10 or newer, make and git, and sees to the rest.

PYTHON ?= python3
BIN    := .venv/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
PYTEST  = $(BIN)/python -m pytest

# Processes of one thread each do more than one process of many threads, in unit tests and in notebooks alike.
WORKERS = -n logical --maxprocesses 4
NBVAL   = --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg --nbval-cell-timeout 300

.DEFAULT_GOAL := help
.PHONY: help lab test check environment lint unit notebooks lessons constraints clean

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: .venv/.lab ## open the lessons in JupyterLab
	@$(BIN)/course lab

test: environment lint unit notebooks ## check everything: environment, style, unit tests, every notebook

check: .venv/.all lint ## the quick part of `make test`, for before a commit
	$(PYTEST) -q $(WORKERS) --dist worksteal -m "not slow" --ignore tests/test_bad_input.py

lessons: .venv/.all ## build the notebooks whose source changed; REPO=https://... for your fork
	$(BIN)/course lessons $(if $(REPO),--repo $(REPO))

constraints: ## pin the newest versions that work together, for every system and Python
	@echo "resolving: about a minute"
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(PYTHON) -m venv "$$tools"; "$$tools/bin/pip" install -q --disable-pip-version-check uv; \
	env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS "$$tools/bin/uv" \
	    pip compile -q --no-config --universal --python-version 3.10 --all-extras --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links pyproject.toml -o "$$tools/constraints.txt"; \
	{ echo "# Versions that work together, for every system and Python; made by \`make constraints\`, read by pip -c."; \
	  cat "$$tools/constraints.txt"; } > constraints.txt

clean: ## remove what was made: .venv, caches
	rm -rf .venv .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- the parts of `make test`

environment: .venv/.all
	$(BIN)/python -m pip --disable-pip-version-check check
	$(BIN)/course doctor

lint: .venv/.all
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

unit: .venv/.all
	$(PYTEST) -q $(WORKERS) --dist worksteal --ignore tests/test_bad_input.py
	@if [ -e tests/test_bad_input.py ]; then set -x; $(PYTEST) -q --no-shape-hook tests/test_bad_input.py; fi

# What the solved copies store is what they compute. (tests/test_notebooks.py, part of `unit`, has run the learner's copies.)
notebooks: .venv/.all
	@if ls notebooks/solutions/*.ipynb >/dev/null 2>&1; then set -x; \
	OMP_NUM_THREADS=1 $(PYTEST) -q $(WORKERS) --dist loadfile --timeout 0 $(NBVAL) notebooks/solutions; \
	else echo "no lessons yet in notebooks/solutions"; fi

# ---------------------------------------------------------------- the environment, made once and again when its pins change

.venv/.lab: .venv/.made pyproject.toml constraints.txt
	@echo "installing PyTorch, JupyterLab and the course into .venv: about two minutes and 5 GB the first time"
	@$(PIP) -e ".[lab]"
	@touch $@

.venv/.all: .venv/.made pyproject.toml constraints.txt
	@echo "installing all that lessons are made and tested with into .venv: about two minutes and 5 GB the first time"
	@$(PIP) -e ".[lab,dev,grade]"
	@touch .venv/.lab $@

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv --clear .venv
	@touch $@
