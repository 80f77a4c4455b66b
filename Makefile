# make repro runs the whole pipeline at the scale of runs.yaml and ends with dvc repro. make test runs the tests.
# Both install what they need.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export USER ?= $(shell id -u)

.PHONY: repro sweep test bench gpu scaling lint lock clean

repro: .venv/installed
	$(BIN)/python src/main.py fan_out

# make sweep ARGS="--address auto --gpus-per-run 1" runs the same on a Ray cluster; see docs/scale_out.md.
sweep: .venv/installed-cluster
	$(BIN)/python src/main.py fan_out $(ARGS)

test: .venv/installed-dev
	$(BIN)/python -m pytest

# Speed relative to the usual libraries, in about ten minutes. Shorter: make bench ARGS="--only l2 --quick"
bench: .venv/installed-bench
	$(BIN)/python benchmarks/run.py $(ARGS)

# On a machine with a CUDA device: its tests, the speeds of all networks and one run, in one table and nine minutes.
# Speeds are compared with diffusers where it is installed: .venv/bin/pip install -r requirements-bench.txt
gpu: .venv/installed-dev
	$(BIN)/python benchmarks/gpu.py $(ARGS)

scaling: .venv/installed-bench
	$(BIN)/python benchmarks/scaling.py $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv/installed-cluster: requirements-cluster.txt .venv/installed
	$(BIN)/python -m pip install --quiet --requirement requirements-cluster.txt
	touch $@

.venv/installed-bench: requirements-bench.txt .venv/installed
	$(BIN)/python -m pip install --quiet --requirement requirements-bench.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

# Records the installed versions. Where a newer release breaks something, install these and run make repro test.
lock: .venv/installed-dev
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

clean:
	rm -rf .venv
