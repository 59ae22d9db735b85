# `make sweep` runs the main comparison, and `make test` runs linters, types and tests. Both first install
# what they need into .venv; images and experts go to the data folder (MERGESHIFT_HOME).
# `make results` runs the sweeps that the README and docs/ show, and writes their tables and figures anew.

PYTHON ?= python3
BIN := .venv/bin
# pip compiles 20,000 files of the libraries, a fifth of which is ever imported: Python compiles these.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: sweep results test suite lint style clean

sweep: .venv/.run
	$(BIN)/python -m bench sweep main

results: .venv/.run
	for sweep in $$($(BIN)/python -m bench.docs sweeps); do \
		$(BIN)/python -m bench sweep $$sweep || exit 1; \
	done
	$(BIN)/python -m bench.docs results

test: .venv/.dev
	$(MAKE) --no-print-directory -j 2 style suite

# In the order of the files: the last ones are short, so that no core waits long for the others.
suite: .venv/.dev
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# The suite makes the check of the pages, too.
lint: style
	$(BIN)/python -m bench.docs --check

style: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.run: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $@

.venv/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[dev]'
	touch .venv/.run $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
