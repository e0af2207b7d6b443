# Everything a person or a machine does with this repository. It needs Python >= 3.11 and make, and nothing else:
# what the targets use is installed from the pinned, hashed lists below into a folder of its own.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The lists name packages, versions and hashes, never where they were found: they are as good on a mirror.
COMPILE = $(BIN)/pip-compile --quiet --upgrade --strip-extras --allow-unsafe --generate-hashes --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check check-long check-image bench lock clean python

help: ## this list
	@echo 'usage: make TARGET [PYTHON=python3.13] [WORKERS=4]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' Makefile | awk -F@ '{ printf "%-18s  %s\n", $$1, $$2 }'

demo: $(READY) ## the whole flow on this machine: a Runflow on loopback, a receiver, 20 verdicts
	$(BIN)/receiver demo

test: $(READY) ## the tests, in two processes, with branch coverage and its gate
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal -m 'not long and not image' --cov

check: $(READY) ## format, lint, types, directions of imports, the shell script, the Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck .ci/run
	$(BIN)/hadolint Dockerfile

check-long: $(READY) ## the long tests: processes killed under load, many times
	$(BIN)/pytest -o faulthandler_timeout=3600 -m long

check-image: $(READY) ## the steps of the Dockerfile in a clean folder, without an engine (asks the package registry)
	$(BIN)/pytest -o faulthandler_timeout=1200 -m image

bench: $(READY) ## the measurements
	$(BIN)/python -m bench

lock: python ## the lists of pinned packages, made anew from pyproject.toml (asks the package registry)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info > (3, 11, 3) and "make lock wants a Python before 3.11.3, which needs " \
		"more packages than later ones: make lock PYTHON=/usr/bin/python3 VENV=.venv/lock")'
	@$(BIN)/pip-compile --version >/dev/null 2>&1 || { $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet pip-tools; }
	$(COMPILE) --extra all --extra dev --output-file tests/requirements.txt pyproject.toml
	$(COMPILE) --extra all --constraint tests/requirements.txt --output-file deploy/requirements.txt pyproject.toml
	$(COMPILE) --only-build-deps --build-deps-for wheel --constraint tests/requirements.txt \
		--output-file deploy/build-requirements.txt pyproject.toml

clean: ## remove what the other targets made
	rm -rf $(VENV) dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Set up once, and again when a list or pyproject.toml changes. The list is complete, so nothing is resolved: an older pip
# would look for the newest release of what is asked for with an extra, and refuse it for want of a hash. From nothing, for
# what another Python left there would be half of this one's.
$(READY): pyproject.toml tests/requirements.txt | python
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes --requirement tests/requirements.txt
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/pip check --quiet
	@touch $@

python:
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; \
		sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer, and $(PYTHON) is " + v \
		+ ": name another, as in make PYTHON=python3.13")'
