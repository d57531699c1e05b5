# `make up` runs Audiophile, `make test` tests it; everything else is below. Only make and Python 3.11 or 3.12 are needed.
SHELL := /bin/bash
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(or $(shell for p in python3 python3.12 python3.11; do $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done),python3)
BIN := .venv/bin

.PHONY: up test check eval clean verify backup bench bench-drift chaos containers doctor notebook notebook-run ray
.DEFAULT_GOAL := up

up: .venv/installed
	@exec $(BIN)/python -m flows.up

test: .venv/installed-dev
	$(BIN)/python -m tests

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Measures the phrase model on prompts, other voices, splices and what is no speech, callscene on calls, and descriptors:
# build/eval.json, build/eval.md. A part of it: make eval EVAL='--corpora scenes'.
eval: .venv/installed-dev
	$(BIN)/python -m tests.eval $(EVAL)

# Opens JupyterLab in notebooks/, on this machine only, for the lake at AUDIOPHILE_DATA; it prints its address.
notebook: .venv/installed-notebook
	@exec $(BIN)/jupyter lab --ip=127.0.0.1 --LabApp.default_url=/lab/tree/notebooks --LabApp.extension_manager=readonly \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

# Executes the notebooks on a lake of the demo recordings, and keeps them with their output.
notebook-run: .venv/installed-dev
	$(BIN)/python -m tests.notebooks

# Installs what a host of a Ray cluster needs, and one that scores on it (AUDIOPHILE_RUNNER=ray://host:port).
ray: .venv/installed-ray

# Looks at everything in the lake at AUDIOPHILE_DATA: 0 all is well, 1 something is wrong, 2 it cannot be opened.
verify: .venv/installed
	@$(BIN)/python -m storage.verify $(if $(NO_AUDIO),--no-audio)

# Looks at what Audiophile needs to run, and whether it does, a line each: 1 where something is to be mended. MODELS=1 loads
# the models.
doctor: .venv/installed
	@$(BIN)/python -m flows.doctor $(if $(MODELS),--models) $(if $(NO_WAIT),--no-wait)

# Copies the lake, which may go on meanwhile, to a folder or a bucket: make backup TO=/mnt/copy, or TO=s3://bucket/prefix.
backup: .venv/installed
	@$(BIN)/python -m storage.backup "$(TO)"

# Measures storage, the API, idling and orchestration on this machine, in an hour and 5 GB of build/: build/bench.json, build/bench.md.
# It needs wrk. A part of it: make bench BENCH=api, or storage, idle, orchestration, sizes.
bench: .venv/installed-dev
	$(BIN)/python -m tests.bench $(BENCH)

# Measures drift on real recordings, found and not found, on one thread: build/drift.json, build/drift.md. What models make
# of the recordings is kept in build/drift. Less of it: make bench-drift DRIFT='--baselines 20 --trials 10'.
bench-drift: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.drift $(DRIFT)

# Kills, cuts the power, fills the disk and breaks the network under a lake, then kills, stops and takes away parts of the
# service, for an hour: build/chaos.json.
chaos: .venv/installed-dev
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

# Builds the image, runs it on a disk and on S3, and strikes it, in a project of its own: build/containers.json. COMPOSE
# names what to call in place of `docker compose`; CONTAINERS=disk or s3 runs one of both.
containers: .venv/installed-dev
	$(BIN)/python -m tests.containers $(CONTAINERS)

# TORCH_INDEX: an index with CPU builds of torch and torchaudio, for an installation without CUDA.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(SUITABLE)' 2>/dev/null || \
	  { echo "audiophile: needs Python 3.11 or 3.12, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing). Set PYTHON: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "audiophile: installing the pinned packages into .venv (several GB, a few minutes) ..."
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv >.venv.log 2>&1 || \
	  { echo "audiophile: $(PYTHON) cannot make .venv: $$(tail -n 1 .venv.log). On Debian: apt-get install python3-venv" >&2; rm -rf .venv .venv.log; exit 1; }
	@rm -f .venv.log
	@if [ -n "$(TORCH_INDEX)" ]; then $(BIN)/pip install -q -c constraints.txt --index-url "$(TORCH_INDEX)" torch torchaudio; fi
	@$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "audiophile: installing what the tests need ..."
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.venv/installed-notebook: .venv/installed
	@echo "audiophile: installing JupyterLab ..."
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[notebook]'
	@touch $@

.venv/installed-ray: .venv/installed
	@echo "audiophile: installing Ray ..."
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[ray]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
