# make pull gets the committed results of the scale in runs.yaml, and with MODELS=1 its models. make repro runs the whole
# pipeline at that scale and ends with dvc repro. make test runs the tests. Each installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export USER ?= $(shell id -u)

# LOCKED=1 installs the versions and hashes of requirements.lock; CPU=1 takes torch without CUDA, smaller on Linux.
# uv installs where it is on the PATH.
UV := $(shell command -v uv 2>/dev/null)
ifdef CPU
ifdef LOCKED
$(error LOCKED=1 and CPU=1: the hashes of requirements.lock are those of the default torch; take one of them)
endif
endif
PIP := $(BIN)/python -m pip install
INSTALL = $(if $(UV)$(CPU),uv pip install --python $(BIN)/python $(if $(CPU),--torch-backend cpu),$(PIP)) --quiet

CORE := .venv/installed-core$(if $(LOCKED),-locked)

.PHONY: pull release repro sweep test bench gpu scaling lint check environment lock docs notebook clean

pull: $(CORE)
	@test -d results -o -f .dvc/config.local || { echo "There is no results/ here: make repro computes them, or see" \
		"docs/results.md for a host that has them."; exit 1; }
	@$(BIN)/dvc remote list | grep -q ^results || $(BIN)/dvc remote add --quiet --local results results
	$(BIN)/python src/main.py pull $(if $(MODELS),--models)

# After make repro, and after the two dvc.lock are committed: what others pull, in results/. See docs/results.md.
release: $(CORE)
	$(BIN)/python src/main.py release $(ARGS)

# On another kind of processor numbers round differently: what differs from the committed results is said in words.
repro: $(CORE)
	$(BIN)/python src/main.py fan_out
	@git diff --quiet HEAD -- metrics || { echo "These results differ from the committed ones (docs/results.md):"; \
		$(BIN)/python src/main.py compare HEAD workspace; \
		echo "To return to the committed results: git checkout metrics plots dvc.lock models/dvc.lock && dvc checkout"; } || true

# make sweep ARGS="--address auto --gpus-per-run 1" runs the same on a Ray cluster; see docs/scale_out.md.
sweep: .venv/installed-cluster
	$(BIN)/python src/main.py fan_out $(ARGS)

# The tests of a file run in one process, files side by side; make test ARGS="-n 0" runs all of them in one.
test: .venv/installed-dev
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# Speed relative to the usual libraries, in about ten minutes. Shorter: make bench ARGS="--only l2 --quick"
bench: .venv/installed-bench
	$(BIN)/python benchmarks/run.py $(ARGS)

# On a machine with a CUDA device: its tests, the speeds of all networks and one run, in one table and nine minutes.
# Speeds are compared with diffusers where it is installed: .venv/bin/pip install -e '.[bench]'
gpu: .venv/installed-dev
	$(BIN)/python benchmarks/gpu.py $(ARGS)

scaling: .venv/installed-bench
	$(BIN)/python benchmarks/scaling.py $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# Before a commit, in under a minute: lint, types, and the fast tests of the files that differ from the branch main or,
# on main itself, from its last commit. tests/changed.py says which tests those are.
check: lint
	@tests=$$($(BIN)/python tests/changed.py) && if [ -n "$$tests" ]; then $(BIN)/python -m pytest -n 2 --dist loadfile $$tests; fi

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(if $(CPU),$(if $(UV),,$(BIN)/python -m pip install --quiet uv))

# Installs the extra NAME of pyproject.toml; `core` is requirements.txt. The lock has the versions of core and dev.
environment: .venv/installed-dev
$(CORE): requirements.txt requirements.lock pyproject.toml | .venv/bin/python
	$(INSTALL) $(if $(LOCKED),--require-hashes --requirement requirements.lock,--requirement requirements.txt)
	$(INSTALL) --no-deps --editable .
	touch $@

.venv/installed-dev: $(CORE)
	$(if $(LOCKED),,$(INSTALL) --editable '.[dev]')
	touch $@

.venv/installed-%: $(CORE)
	$(INSTALL) --editable '.[$*]'
	touch $@

# Records the installed versions, with hashes for every system and Python that the project supports. Needs uv.
lock: .venv/installed-dev
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+.*//' > .venv/versions
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --constraint .venv/versions \
		--extra dev --output-file requirements.lock pyproject.toml

# The pages in docs/ and an API reference, in site/.
docs: .venv/installed-docs
	$(BIN)/mkdocs build

notebook: .venv/installed-docs
	$(BIN)/jupyter execute notebooks/first_look.ipynb

clean:
	rm -rf .venv
