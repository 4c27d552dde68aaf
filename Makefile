# Everything a learner or an author runs. Each target needs Python 3.10 or newer, make and git, and sees to the rest.

PYTHON ?= python3
VENV   ?= .venv
PINS   ?= constraints.txt
BIN     = $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP     = $(BIN)/python -m pip --disable-pip-version-check install -q $(if $(PINS),-c $(PINS))
PYTEST  = $(BIN)/python -m pytest

# Processes of one thread each do more than one process of many threads, in unit tests and in notebooks alike.
WORKERS = -n logical --maxprocesses 4 --dist worksteal --durations 10
NBVAL   = --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg
NBVAL  += --nbval-cell-timeout 3600 --nbval-kernel-startup-timeout 600

# What must see the course as a learner's notebook does, without the shape annotations enforced: `make bare`.
BARE = tests/test_browser.py tests/test_lessons_on_a_gpu.py tests/test_bad_input.py

.DEFAULT_GOAL := help
.PHONY: help lab test check plain weekly browser-test oldest canary colab lessons book constraints clean
.PHONY: environment lint quick unit bare notebooks

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: $(VENV)/.lab ## open the lessons in JupyterLab
	@$(BIN)/course lab

test: ## check everything: environment, style, unit tests, every notebook
	@MAKE="$(MAKE)" tests/parts environment lint unit bare notebooks

check: lint quick ## the quick part of `make test`, for before a commit

oldest: PYTHON = python3.10
oldest: .cache/oldest.txt ## unit tests, and LESSONS="00 01 …", on the oldest versions that pyproject.toml allows
	$(MAKE) environment unit notebooks PYTHON=$(PYTHON) VENV=.cache/oldest PINS=$< \
	    LESSONS="$(or $(LESSONS),00 01 02 03 06 10)"

canary: ## all tests and lessons on the newest versions of everything
	rm -rf .cache/newest
	@MAKE="$(MAKE)" tests/parts environment unit bare notebooks PYTHON=$(PYTHON) VENV=.cache/newest PINS=

plain: ## all tests and lessons as on a machine without bfloat16 and AVX-512, which this one only plays (x86)
	@ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 PYTHONPATH=$(CURDIR)/tests/without_bf16 \
	    MAKE="$(MAKE)" tests/parts environment unit bare notebooks

weekly: $(VENV)/.all ## what takes long and seldom says anything new: learner's copies executed, trainings repeated
	$(PYTEST) -q $(WORKERS) --weekly -m weekly --ignore tests/test_lessons_on_a_gpu.py
	$(PYTEST) -q $(WORKERS) --weekly tests/test_exercises.py
	$(PYTEST) -q $(WORKERS) --weekly -m weekly --no-shape-hook tests/test_lessons_on_a_gpu.py
	$(BIN)/course bench robust

colab: $(VENV)/.all ## lessons on a machine that has PyTorch but not the course: LESSONS="01 05 10" if not given
	LESSONS="$(or $(LESSONS),01 05 10)" $(PYTEST) -q tests/test_colab.py

browser-test: $(VENV)/.all ## part of `make test`: the lab in a real browser (apt-get install chromium, or it is skipped)
	$(PYTEST) -q tests/test_browser.py

lessons: $(VENV)/.all ## build the notebooks whose source changed; REPO=https://... for your fork
	$(BIN)/course lessons $(if $(REPO),--repo $(REPO))

book: $(VENV)/.all ## make the course as a web page: build/book/index.html
	$(BIN)/python -m course_utils.desk.authoring.book build/book

constraints: .cache/uv/.made ## pin the newest versions that work together, for every system and Python
	@echo "resolving: about a minute"
	@$(RESOLVE) --universal --python-version 3.10 -o .cache/constraints.txt
	@{ echo "# Versions that work together, for every system and Python; made by \`make constraints\`, read by pip -c."; \
	  cat .cache/constraints.txt; } > constraints.txt

clean: ## remove what was made: .venv, caches
	rm -rf .venv .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
	find . -path ./work -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- the parts of `make test`

environment: $(VENV)/.all
	$(BIN)/python -m pip --disable-pip-version-check check
	$(BIN)/course doctor

lint: $(VENV)/.all
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

quick: $(VENV)/.all
	$(PYTEST) -q $(WORKERS) --no-shape-hook -m "not slow and not bank" $(BARE:%=--ignore %)

unit: $(VENV)/.all
	$(PYTEST) -q $(WORKERS) $(BARE:%=--ignore %)

bare: $(VENV)/.all
	$(PYTEST) -q $(WORKERS) --no-shape-hook $(wildcard $(BARE))

# What the solved copies store is what they compute, with no network and in an empty home. (tests/test_notebooks.py shows
# that the learner's copies then run too.)
notebooks: $(VENV)/.all
	OMP_NUM_THREADS=1 PYTHONPATH=tests$(if $(PYTHONPATH),:$(PYTHONPATH)) tests/alone \
	    $(PYTEST) -q $(WORKERS) --dist loadfile --no-loadscope-reorder --timeout 0 -p replay -p no:cacheprovider $(NBVAL) \
	    $(or $(LESSONS:%=notebooks/solutions/%_*.ipynb),notebooks/solutions)

# ---------------------------------------------------------------- the environment, made once and again when its pins change

$(VENV)/.lab: $(VENV)/.made pyproject.toml $(PINS)
	@echo "installing PyTorch, JupyterLab and the course into $(VENV): about two minutes and 5 GB the first time"
	@$(PIP) -e ".[lab]"
	@touch $@

$(VENV)/.all: $(VENV)/.made pyproject.toml $(PINS)
	@echo "installing all that lessons are made and tested with into $(VENV): about two minutes and 5 GB the first time"
	@$(PIP) -e ".[lab,dev,grade,book,browser]"
	@touch $(VENV)/.lab $@

$(VENV)/.made:
	$(call new_venv,$(VENV))
	@touch $@

define new_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv --clear $(1)
endef

# ---------------------------------------------------------------- choosing versions

RESOLVE = env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS .cache/uv/bin/uv \
    pip compile -q --no-config --all-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml

.cache/oldest.txt: pyproject.toml .cache/uv/.made
	@$(RESOLVE) --resolution lowest-direct --python $(PYTHON) -o $@

.cache/uv/.made:
	$(call new_venv,.cache/uv)
	@.cache/uv/bin/python -m pip --disable-pip-version-check install -q uv
	@touch $@
