# `make sweep` runs the main comparison, and `make test` runs linters, types and tests. Both first install
# what they need into .venv; images and experts go to the data folder (MERGESHIFT_HOME).
# `make results` runs the sweeps that the README and docs/ show, and writes their tables and figures anew.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: sweep results test lint clean

sweep: .venv/.run
	$(BIN)/python -m bench sweep main

results: .venv/.run
	for sweep in $$($(BIN)/python -m bench.docs sweeps); do \
		$(BIN)/python -m bench sweep $$sweep || exit 1; \
	done
	$(BIN)/python -m bench.docs results

test: .venv/.dev lint
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m bench.docs --check

.venv/.run: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/.dev: .venv/.run pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
