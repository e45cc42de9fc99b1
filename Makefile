# One command each; what is missing is installed first, into .venv. `make help` lists them.
#
#   PYTHON      interpreter that makes .venv, 3.11 or later
#   TORCH_ARGS  options of pip for torch alone. On Linux without a GPU, name PyTorch's CPU index here, as in
#               make rank TORCH_ARGS="--extra-index-url ADDRESS"; pip alone fetches gigabytes of CUDA with it.
#   WORKERS     processes for tests, recording and fine-tuning

PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV ?= .venv
TORCH_ARGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
V2W := $(BIN)/v2w
PYTEST := $(BIN)/python -m pytest -n $(WORKERS)
INSTALL := $(BIN)/pip install --disable-pip-version-check --constraint constraints.txt
CONFIGS := configs/drawer_close
WORLD := v2w_gym/worlds/drawer_close

.PHONY: help rank test test-all testable lint setup
help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# ------------------------------------------------------------------------------------------ use and test

rank: $(VENV)/installed ## rank all shipped policies in imagination, against reality; results in runs/rank
	$(V2W) rank --episodes 50 --out runs/rank

test: lint ## linters, type checker and the fast tests
	$(PYTEST) -m "not slow"

test-all: testable ## the same with the slow tests, and those that need Meta-World
	MUJOCO_GL=osmesa $(PYTEST)

# without an offscreen OpenGL Meta-World stays out, and the tests that need it skip
testable: $(if $(shell $(PYTHON) -c "from ctypes.util import find_library as f; print(f('OSMesa') or '')"),setup) lint

lint: $(VENV)/installed-dev ## linters and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(VENV)/installed-all ## install everything, Meta-World included

# torch comes first and alone, so that TORCH_ARGS choose its build; setuptools with it, for the pinned version
$(VENV)/torch: constraints.txt
	$(PYTHON) -m venv $(VENV) || { echo "on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(INSTALL) setuptools
	$(INSTALL) $(TORCH_ARGS) torch
	@touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml
	$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/torch pyproject.toml
	$(INSTALL) --no-build-isolation --editable ".[dev]"
	@touch $@ $(VENV)/installed

$(VENV)/installed-all: $(VENV)/torch pyproject.toml
	$(INSTALL) --no-build-isolation --editable ".[dev,metaworld]"
	@touch $@ $(VENV)/installed $(VENV)/installed-dev

# -------------------------------------------------------------------------- make the world, in this order
# Every stage goes on from where it was stopped. Minutes are about those of two cores that are not idle.
# Recording needs an offscreen OpenGL (Debian: apt-get install libosmesa6).

.PHONY: data onpolicy codec pretrain reader finetune detector policies reality world credibility shifts audit card
VIDEO_TASKS := drawer-open-v3 door-close-v3 button-press-topdown-v3 push-v3 reach-v3
OTHER_TASKS := window-close-v3 faucet-open-v3 plate-slide-v3 handle-press-v3
# glibc hands large tensors back to the system and asks for them again, step by step; kept, a step takes 9 % less
HEAP := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
RECORD := $(V2W) record --workers $(WORKERS)

data: setup ## record training, held-out and action-free episodes: 25 minutes
	$(RECORD) --out data/train --episodes 8000
	$(RECORD) --out data/heldout --episodes 400 --first-seed 900000
	seed=500000; for task in $(VIDEO_TASKS); do \
	    $(RECORD) --out data/videos --episodes 200 --task $$task --first-seed $$seed --no-actions || exit 1; \
	    seed=$$((seed + 1000)); \
	done

onpolicy: setup ## record what image policies of a second family do, which are never ranked
	$(V2W) train policies --config $(CONFIGS)/policies_onpolicy.yaml --out runs/policies_onpolicy
	$(RECORD) --out data/onpolicy --episodes 1200 --first-seed 700000 --policies runs/policies_onpolicy/weights

codec: setup ## frames to latents and back: 25 minutes
	$(V2W) train codec --config $(CONFIGS)/codec.yaml

pretrain: setup ## a non-causal, action-free video model: 20 minutes
	$(V2W) train pretrain --config $(CONFIGS)/pretrain.yaml

reader: setup ## reads positions from latents, for fine-tuning: 7 minutes
	$(V2W) train reader --config $(CONFIGS)/reader.yaml

finetune: setup ## made causal by extrapolative weight transfer, trained with actions: 140 minutes
	$(HEAP) OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node $(WORKERS) -m v2w_gym train finetune \
	    --config $(CONFIGS)/finetune.yaml loop.threads=1

detector: setup ## the success detector: 40 minutes
	$(V2W) train detector --config $(CONFIGS)/detector.yaml

policies: setup ## image policies, from barely trained to converged: 20 minutes
	$(V2W) train policies --config $(CONFIGS)/policies.yaml

reality: setup ## start contexts, and every shipped policy in Meta-World from each of the 100
	$(V2W) reality --world $(WORLD) --workers $(WORKERS)

world: setup ## put the trained parts together as the world that the package ships
	$(V2W) assemble --config $(CONFIGS)/world.yaml --out $(WORLD)

credibility: setup ## teach the world what to believe of itself, from episodes that it has not seen: 5 minutes
	$(RECORD) --out data/calibration --episodes 256 --first-seed 920000
	$(V2W) credibility fit --world $(WORLD) --data data/train data/onpolicy --calibration data/calibration

shifts: setup ## record scenes that it must not believe, and check that it does not: 15 minutes
	for shift in camera-moved camera-turned light colour obstacle beyond; do \
	    $(RECORD) --out data/shift/$$shift --episodes 64 --first-seed 930000 --shift $$shift || exit 1; \
	done
	for task in $(OTHER_TASKS); do \
	    $(RECORD) --out data/shift/$$task --episodes 64 --first-seed 940000 --task $$task || exit 1; \
	done
	$(V2W) credibility check --world $(WORLD) --heldout data/heldout data/shift/*

audit: setup ## hold the world against recorded reality, probe by probe: 10 minutes; a failed probe does not stop make
	$(V2W) audit --world $(WORLD) --heldout data/heldout --probes data/probes --directions data/directions \
	    --episodes 200 --again 0.01 || [ $$? -eq 1 ]

card: setup ## write the world's card from its training and its validation
	$(V2W) card --world $(WORLD) $(foreach stage,codec pretrain reader finetune detector,$(stage)=runs/$(stage))

# ---------------------------------------------------------------------------------- learn in imagination

.PHONY: imagine
imagine: setup ## train a policy on what the shipped world imagines, and hold it against Meta-World
	$(V2W) imagine --config configs/imagination/drawer_close.yaml --out runs/imagine --compare 100 --real
