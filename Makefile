# Two commands do everything: `make train` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: train test lint format docs benchmark load scale pins clean

train: $(VENV)/ready
	$(BIN)/digitwise train --model fast

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The site, in docs/_build/html; its notebooks run without a network, on the built-in sample.
SITE := docs/_build
docs: export DIGITWISE_DATA =
docs: export DIGITWISE_CACHE = $(CURDIR)/$(SITE)/cache
docs: export DIGITWISE_MIRROR = http://127.0.0.1:9
docs: export KERAS_HOME = $(CURDIR)/$(SITE)/keras
docs: export PATH := $(CURDIR)/$(BIN):$(PATH)
docs: $(VENV)/ready
	rm -rf $(SITE)
	mkdir -p $(SITE)/notebooks/tutorial
	for page in docs/tutorial/[0-9]*.md; do \
		$(BIN)/jupytext --quiet --to ipynb $$page \
			--output $(SITE)/notebooks/tutorial/$$(basename $$page .md).ipynb || exit 1; \
	done
	$(BIN)/sphinx-build --fail-on-warning --keep-going -q -b html docs $(SITE)/html

# The figures of the documents; needs the data that DIGITWISE_DATA names.
benchmark: $(VENV)/ready
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/hands.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/pages.py
	$(BIN)/python benchmarks/records.py
	$(BIN)/python benchmarks/tables.py

# What the service bears, with the client on the same machine; a quarter of an hour.
load: $(VENV)/ready
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/tables.py

# Reading in bulk on Ray, with one worker and two; a quarter of an hour.
scale: $(VENV)/ready
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/tables.py

# One set of pins for Python 3.11 to 3.13, Linux and macOS, x86-64 and arm64.
pins:
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --extra train --extra insight --extra serve --extra cluster --extra openvino --extra pdf \
		--group dev --group docs --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) build dist

$(VENV)/ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
