# make demo       the shipped small model draws what it is shown, then trains for a minute: out/demo.png
# make web        a page in the browser that draws with the small model
# make small      the small model's training from nothing, in runs/small: minutes on a GPU, nights without
# make check      lint and the fast tests: before every commit, 3 minutes on two cores
# make test       the whole test suite (needs PyTorch and diffusers, which are installed on first use)
# make coverage   the same, with a table of the lines that no test runs
# make shapes     the fast tests but tools', with every annotation of shape and type checked as it runs
# make lint       format, lint, types and the order of imports
# make docs       README, docs/ and the API from docstrings, in site/
PYTHON ?= python3
PY := .venv/bin/python
INSTALL := $(PY) -m pip install --quiet --editable
# In the order of the folders: by the number of tests, as xdist has it, the longest file comes last.
PYTEST := $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo web small check test coverage shapes lint docs
.NOTPARALLEL:

demo: .venv/installed
	$(PY) -m uno_jax.demo --out out

web: .venv/installed-web
	$(PY) -m uno_jax.web

small: .venv/installed
	$(PY) -m uno_jax.train_small --out runs/small

check: lint .venv/installed-test
	$(PYTEST) -m "not slow"

test: .venv/installed-test
	$(PYTEST)

coverage: .venv/installed-test
	$(PYTEST) --cov --cov-report term:skip-covered

# An int may stand for a float, as mypy has it.
shapes: .venv/installed-test
	$(PYTEST) -m "not slow" --ignore tests/tools \
		'--jaxtyping-packages=uno_jax,beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))'

lint: .venv/installed-lint
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports

# The variable silences a notice of mkdocs-material about other programs.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

.venv/bin/python:
	$(PYTHON) -m venv .venv

# Stamps: installed anew only when what is to be installed changes.
.venv/installed: setup.cfg | $(PY)
	$(INSTALL) .
	touch $@

.venv/installed-%: setup.cfg | $(PY)
	$(INSTALL) '.[$*]'
	touch $@
