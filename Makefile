# Everything that is done with this repository, by one word each. `make` alone lists them.

SHELL := /bin/bash
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled
CORE := $(wildcard fastq/_core.p* fastq/_core/*.px*)
PYTEST := $(BIN)/python -m pytest
# More for pytest: make test ARGS="tests/unit -x"
ARGS ?=
# Processes that share the tests, a module at a time, each with a Redis of its own; 0: this one, for a debugger. Helpers of
# theirs are threads, which newer Pythons remark upon when a test forks.
JOBS ?= 2
SHARED := -n $(JOBS) --dist loadfile -p no:benchmark -W "ignore:This process (pid=:DeprecationWarning"

.PHONY: help venv demo test test-slow-path celery-suite celery-suite-quick faults apm lint types format bench bench-full \
	bench-micro bench-pictures \
	typing debug-core sanitize-core clean

help:
	@echo "make demo            install, start a worker, send 100,000 tasks, show the figures beside Celery's"
	@echo "make test            all tests but the long campaigns, with a Redis of their own"
	@echo "make test-slow-path  the same without the compiled fast path (FASTQ_FAST=0)"
	@echo "make celery-suite    Celery's own integration tests, with fastq and with celery worker, side by side: 20 min"
	@echo "make celery-suite-quick  a choice of them with fastq, one minute"
	@echo "make faults          the long campaigns: processes killed and wires cut, again and again"
	@echo "make apm             monitoring agents and libraries that hook into workers, under fastq and under celery"
	@echo "make lint            style, imports, spelling      make format     what ruff can mend by itself"
	@echo "make types           mypy, strict"
	@echo "make typing          pyright too: calls of tasks, and that every public name has a known type"
	@echo "make docs            the pages that are made: docs/celery/settings.md, docs/reference"
	@echo "make bench           side by side with Celery      make bench-micro  single parts of the hot path"
	@echo "make bench-full      beside Dramatiq, RQ, Huey, taskiq, arq and SAQ, too, on every workload: about an hour"
	@echo "make bench-pictures  pictures and tables of the docs, from the newest results"
	@echo "make debug-core      core tests on a build with assertions and bounds checks"
	@echo "make sanitize-core   core tests on a build with address and undefined-behaviour sanitizers"
	@echo "make clean           remove what was built, except $(VENV)"

# ---------------------------------------------------------------------------- installation

venv: $(INSTALLED) $(COMPILED)

.venv: venv

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "fastq needs Python 3.10 or newer, $(PYTHON) is $$($(PYTHON) --version): make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
	  || { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	@test -e "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" \
	  || { echo "the headers of $(PYTHON) are missing, the core cannot be compiled: apt-get install python3-dev"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Again when the list of dependencies or the build has changed.
$(INSTALLED): pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,celery,embedded]'
	@touch $@

# Again when the core has changed, unless the installation has just compiled it.
$(COMPILED): $(CORE) | $(INSTALLED)
	@case "$$(ls -t fastq/_core.*.so $(CORE) 2>/dev/null | head -1)" in *.so) ;; \
	  *) echo "compiling the core"; $(BIN)/python setup.py --quiet build_ext --inplace --force ;; esac
	@touch $@

# ---------------------------------------------------------------------------- use

demo: venv
	$(BIN)/python -m bench.demo $(ARGS)

bench: venv
	$(BIN)/python -m bench $(ARGS)

APM := build/apm

# Each peer lives in an environment of its own, in its newest version: some want older versions of what others share.
PEERS := build/peers
PEERS_INSTALLED := $(patsubst bench/peers/packages/%.txt,$(PEERS)/%/.installed,$(wildcard bench/peers/packages/*.txt))

$(PEERS)/%/.installed: bench/peers/packages/%.txt | venv
	rm -rf $(PEERS)/$*
	$(BIN)/python -m venv --without-pip $(PEERS)/$*
	$(BIN)/python -m pip --python $(PEERS)/$*/bin/python install --quiet --disable-pip-version-check -r $<
	@touch $@

bench-full: venv $(PEERS_INSTALLED) $(APM)/.installed
	$(BIN)/python -m bench.full $(ARGS)

bench-micro: venv
	$(BIN)/python -m bench.micro $(ARGS)

# From the newest results, or from those that are named (several parts of one commit, too): make bench-pictures ARGS="bench/results/A.json bench/results/B.json"
bench-pictures: venv
	$(BIN)/python -m bench.pictures $(ARGS)

# ---------------------------------------------------------------------------- checks

test: venv
	@mkdir -p build
	$(PYTEST) $(SHARED) --junitxml=build/tests.xml $(ARGS)

test-slow-path: venv
	@mkdir -p build
	FASTQ_FAST=0 $(PYTEST) $(SHARED) --junitxml=build/tests-slow-path.xml $(ARGS)

celery-suite: venv
	$(BIN)/python -m tests.celery_suite $(ARGS)

# Without the package index, which Celery's tests come from, it says so and passes.
celery-suite-quick: venv
	$(BIN)/python -m tests.celery_suite --quick --skip-unreachable $(ARGS)

faults: venv
	FASTQ_TEST_SLOW=1 $(PYTEST) tests/faults --timeout 3600 $(ARGS)

# The packages that are tried there are heavy, and some bring old versions of others: in an environment of their own, on
# top of ours.
APM_CONSTRAINTS := $(APM)/constraints.txt

$(APM)/.installed: tests/apm/packages.txt | venv
	rm -rf $(APM)
	$(BIN)/python -m venv --without-pip $(APM)
	$(APM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $(APM)/purelib
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  > "$$(cat $(APM)/purelib)/ours.pth"
	$(BIN)/python -m pip freeze --exclude-editable > $(APM_CONSTRAINTS)
	$(BIN)/python -m pip --python $(APM)/bin/python install --quiet --disable-pip-version-check \
	  -c $(APM_CONSTRAINTS) -r tests/apm/packages.txt
	@touch $@

apm: $(APM)/.installed
	$(APM)/bin/python -m pytest tests/apm --junitxml=build/tests-apm.xml $(ARGS)
	FASTQ_TEST_ENGINE=celery $(APM)/bin/python -m pytest tests/apm/test_libraries.py tests/apm/test_flower.py $(ARGS)

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint fastq/_core.pyx fastq/_core
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell fastq tests bench examples docs *.md *.py Makefile

format: venv
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: venv
	$(BIN)/mypy

# pyright comes with its own Node: 60 MB that nothing else needs, so in an environment of its own.
TYPING := build/typing

$(TYPING)/.installed: pyproject.toml | venv
	$(BIN)/python -m venv $(TYPING)
	$(TYPING)/bin/python -m pip install --quiet --disable-pip-version-check 'pyright[nodejs]>=1.1.414'
	@touch $@

typing: $(TYPING)/.installed
	$(PYTEST) tests/typing $(ARGS)

docs: venv
	$(BIN)/python docs/make_settings.py
	$(BIN)/python docs/make_reference.py

# ---------------------------------------------------------------------------- other builds of the core

# Both leave the ordinary build behind, whatever the tests said.
ORDINARY := $(BIN)/python setup.py --quiet build_ext --inplace --force

debug-core: venv
	FASTQ_DEBUG=1 $(BIN)/python setup.py --quiet build_ext --inplace --force
	@trap '$(ORDINARY)' EXIT; $(PYTEST) tests/core $(ARGS)

# Python itself is not built for leak checks. The sanitizers' runtimes must be there before Python's allocator is.
sanitize-core: venv
	FASTQ_DEBUG=1 FASTQ_SANITIZE=address,undefined $(BIN)/python setup.py --quiet build_ext --inplace --force
	@trap '$(ORDINARY)' EXIT; \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc $(PYTEST) -p no:faulthandler tests/core $(ARGS)

clean:
	rm -rf build dist *.egg-info fastq/_core.*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f $(INSTALLED) $(COMPILED)
	find fastq tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +
