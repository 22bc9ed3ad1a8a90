.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast faults lint bench results clean activitynet thumos14 hacs

PYTHON ?= python3
VENV := .venv
ETAD := $(VENV)/bin/etad
READY := $(VENV)/.ready

# Where the data sets lie; override on the command line, as in: make thumos14 THUMOS14=/data/thumos14
# A folder holds videos/, annotations.json, video_scores.json (or .npy) and weights.pt of the preset's encoder.
ACTIVITYNET ?= data-sets/activitynet
THUMOS14 ?= data-sets/thumos14
HACS ?= data-sets/hacs
RUNS ?= runs

help: ## Say what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo '  A data set lies in data-sets/NAME: videos/, annotations.json, video_scores.json or .npy, weights.pt (docs/datasets.md)'

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[imagenet,motion,tensorboard,test]'
	@touch $@

install: $(READY) ## Set up .venv with everything in it

demo: $(READY) ## Synthetic videos -> features -> detector -> mAP and pictures, in about 4 minutes
	$(ETAD) demo -o $(RUNS)/demo

test: $(READY) lint ## Lint, types and every test
	$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile

test-fast: $(READY) ## The tests that take a moment
	$(VENV)/bin/python -m pytest -q -m "not slow"

faults: $(READY) ## Kills, full disks, rights, flipped bits, spoilt videos, mutated inputs: hours of them
	ETAD_FAULT_KILLS=200 ETAD_FAULT_TERMINATIONS=5 ETAD_FAULT_SIZES=20 ETAD_FAULT_RIGHTS=100 ETAD_FAULT_FLIPS=50 \
	  ETAD_FAULT_VIDEOS=100 ETAD_FAULT_MUTATIONS=3000 $(VENV)/bin/python -m pytest -q tests/faults

lint: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@mkdir -p $(VENV)/types && ln -sfn ../.. $(VENV)/types/etad
	MYPYPATH=$(VENV)/types $(VENV)/bin/mypy -p etad

bench: $(READY) ## Every benchmark; figures go to benchmarks.json, docs and the README
	$(VENV)/bin/python tests/benchmarks/run_all.py
	$(VENV)/bin/python tests/benchmarks/readme_table.py

results: $(READY) ## Every table of the paper on the synthetic set, into docs/results.md: hours, and it goes on where it stopped
	$(ETAD) reproduce all -o $(RUNS)/results --page docs/results.md

activitynet: $(READY) ## ActivityNet-1.3 in $(ACTIVITYNET): extract TSP features, train, infer, evaluate
	$(ETAD) -c activitynet-tsp -o $(RUNS)/activitynet --set data.videos=$(ACTIVITYNET)/videos \
	  --set data.annotations=$(ACTIVITYNET)/annotations.json \
	  check extract --weights $(ACTIVITYNET)/weights.pt detect --scores $(ACTIVITYNET)/video_scores.json

thumos14: $(READY) ## THUMOS-14 in $(THUMOS14): extract features, train, infer, evaluate
	$(ETAD) -c thumos14 -o $(RUNS)/thumos14 --set data.videos=$(THUMOS14)/videos \
	  --set data.annotations=$(THUMOS14)/annotations.json \
	  check extract --weights $(THUMOS14)/weights.pt detect --scores $(THUMOS14)/video_scores.npy

hacs: $(READY) ## HACS in $(HACS): train on a cache of SlowFast features, infer, evaluate
	$(ETAD) -c hacs-slowfast -o $(RUNS)/hacs --set data.annotations=$(HACS)/annotations.json \
	  detect --features $(HACS)/features.h5 --scores $(HACS)/video_scores.json

clean: ## Remove .venv and caches (runs stay)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
