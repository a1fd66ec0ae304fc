# make demo   the shipped small model draws what it is shown, then trains for a minute: out/demo.png
# make test   the test suite (needs PyTorch and diffusers, which are installed on first use)
# make lint   format, lint and types
PYTHON ?= python3
PY := .venv/bin/python
INSTALL := $(PY) -m pip install --quiet --editable

.PHONY: demo test lint
.NOTPARALLEL:

demo: .venv/installed
	$(PY) -m uno_jax.demo --out out

test: .venv/installed-test
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/installed-lint
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

# Stamps: installed anew only when what is to be installed changes.
.venv/installed: setup.cfg | $(PY)
	$(INSTALL) .
	touch $@

.venv/installed-%: setup.cfg | $(PY)
	$(INSTALL) '.[$*]'
	touch $@
