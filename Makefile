# edgeroof: `make help` lists the targets. Every variable can be set on the command line: make profile MODEL=base BATCH=8

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
SETUP := $(PYTHON) tools/setup_environment.py $(VENV) --torch "$(TORCH)"

DEVICE ?= auto
MODEL ?= small
BATCH ?=
STEPS ?=
PRECISION ?=
OPTIMIZER ?=
ATTENTION ?=
FUSED ?=
DATA ?=
OUT ?=
TRACE ?=
HTA_PYTHON ?=
KERNEL ?= adamw
A ?=
B ?=
BATCHES ?=
LENGTHS ?=
MODES ?=
ROUNDS ?=
ENGINE ?=
GPU ?= a100
LORA ?= 8
RUN ?=
NODES ?=
STUDY ?= compression
SEEDS ?=
FULL ?=
ARCH ?= sm_87
QUICK ?=
ONLY ?=
DOCUMENTS ?= $(if $(OUT)$(ONLY)$(filter-out 0,$(QUICK)),,docs)
ARGS ?=

# option NAME: "--name VALUE" when the variable is set
option = $(if $($(1)),$(2) $($(1)))

.DEFAULT_GOAL := help
.PHONY: help setup profile analyze ab compare sweep paper kernels gpu-evidence fl fl-profile fl-granularity fl-study devices calibrate doctor test test-all lint format notebook benchmarks screenshots clean

help: ## list the targets
	@echo "edgeroof: what holds a training step back, kernel by kernel"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "examples:"
	@echo "  make profile                                  # FLAN-T5-small on the machine at hand"
	@echo "  make profile DEVICE=orin MODEL=base BATCH=8   # on a Jetson AGX Orin"
	@echo "  make profile OPTIMIZER=adamw-foreach ARGS='--clip-norm 1.0'"
	@echo "  make profile FUSED=1                          # the same step with edgeroof's fused operators"
	@echo "  make analyze TRACE=trace.json.gz DEVICE=a100  # a trace from elsewhere"

$(VENV)/.run-ready: pyproject.toml tools/setup_environment.py
	@$(SETUP)
	@touch $@

$(VENV)/.dev-ready: pyproject.toml tools/setup_environment.py
	@$(SETUP) --dev
	@touch $@ $(VENV)/.run-ready

setup: $(VENV)/.dev-ready ## create the environment with everything for development

profile: $(VENV)/.run-ready ## profile a FLAN-T5 client step and write a report (DEVICE MODEL BATCH STEPS PRECISION OPTIMIZER ATTENTION FUSED DATA OUT)
	@$(BIN)/edgeroof profile --device $(DEVICE) --model $(MODEL) $(call option,BATCH,--batch-size) \
	  $(call option,STEPS,--steps) $(call option,PRECISION,--precision) $(call option,OPTIMIZER,--optimizer) \
	  $(call option,ATTENTION,--attention) $(call option,DATA,--data) $(call option,OUT,--out) $(if $(filter-out 0,$(FUSED)),--fused) $(ARGS)

analyze: $(VENV)/.run-ready ## classify the kernels of a Kineto trace (TRACE DEVICE OUT)
	@$(BIN)/edgeroof analyze $(if $(TRACE),$(TRACE),$(error TRACE is not set: make analyze TRACE=trace.json.gz)) \
	  --device $(DEVICE) $(call option,OUT,--out) $(ARGS)

ab: $(VENV)/.run-ready ## compare implementations with intervals (KERNEL: adamw adafactor step softmax rms_norm gated_gelu cross_entropy attention; DEVICE)
	@$(BIN)/edgeroof ab $(KERNEL) --device $(DEVICE) $(call option,OUT,--out) $(ARGS)

compare: $(VENV)/.run-ready ## compare runs: what differs, how surely, what explains it (A B, each one run folder or several)
	@$(BIN)/edgeroof compare --a $(if $(A),$(A),$(error A is not set: make compare A=runs/one B=runs/other)) \
	  --b $(if $(B),$(B),$(error B is not set: make compare A=runs/one B=runs/other)) $(call option,OUT,--out) $(ARGS)

sweep: $(VENV)/.run-ready ## a step over ranges of its settings; again to go on (DEVICE MODEL BATCHES LENGTHS PRECISION OPTIMIZER ATTENTION MODES OUT)
	@$(BIN)/edgeroof sweep --device $(DEVICE) --model $(MODEL) $(call option,BATCHES,--batch-size) \
	  $(call option,LENGTHS,--source-length) $(call option,PRECISION,--precision) $(call option,OPTIMIZER,--optimizer) \
	  $(call option,ATTENTION,--attention) $(call option,MODES,--power-mode) $(call option,STEPS,--steps) \
	  $(call option,OUT,--out) $(ARGS)

paper: $(VENV)/.run-ready ## the paper's experiments, docs/paper.md and its figures; again to go on (QUICK=1 for a tiny model, ONLY DOCUMENTS OUT)
	@$(BIN)/edgeroof paper $(if $(filter-out 0,$(QUICK)),--quick) $(call option,ONLY,--only) \
	  $(call option,DOCUMENTS,--documents) $(call option,OUT,--out) $(ARGS)

kernels: $(VENV)/.dev-ready ## compile edgeroof's kernels for GPUs that are not here: registers, spills, widths (ARCH)
	@$(BIN)/edgeroof kernels --arch $(ARCH) $(ARGS)

gpu-evidence: $(VENV)/.dev-ready ## everything a GPU can prove, in about twenty-five minutes, into results/<device>/
	@$(BIN)/python benchmarks/gpu_evidence.py $(ARGS)

fl: $(if $(filter flower,$(ENGINE)),$(VENV)/.dev-ready,$(VENV)/.run-ready) ## fine-tune in a federation, round by round (MODEL ROUNDS ENGINE NODES DATA OUT)
	@$(BIN)/edgeroof fl run --model $(MODEL) $(call option,ROUNDS,--rounds) $(call option,ENGINE,--engine) \
	  $(call option,NODES,--nodes) $(call option,BATCH,--batch-size) $(call option,DATA,--data) $(call option,OUT,--out) $(ARGS)

fl-profile: $(VENV)/.dev-ready ## profile the client step on every SuperNode and compare them (MODEL NODES BATCH STEPS OUT)
	@$(BIN)/edgeroof fl profile --model $(MODEL) $(call option,NODES,--nodes) $(call option,BATCH,--batch-size) \
	  $(call option,STEPS,--steps) $(call option,OUT,--out) $(ARGS)

fl-granularity: $(VENV)/.run-ready ## how much of a round is computing, per device, codec and link (MODEL GPU LORA RUN OUT)
	@$(BIN)/edgeroof fl granularity $(if $(RUN),--run $(RUN),--model $(MODEL) --device $(GPU)) \
	  $(call option,LORA,--lora-rank) $(call option,BATCH,--batch-size) $(call option,OUT,--out) $(ARGS)

fl-study: $(VENV)/.run-ready ## which codec, or which way of choosing clients, learns at the least cost? (STUDY: compression selection; SEEDS ROUNDS FULL OUT)
	@$(BIN)/edgeroof fl study $(STUDY) $(call option,SEEDS,--seeds) $(call option,ROUNDS,--rounds) \
	  $(if $(filter-out 0,$(FULL)),--full) $(call option,OUT,--out) $(ARGS)

devices: $(VENV)/.run-ready ## list the devices edgeroof knows
	@$(BIN)/edgeroof devices $(ARGS)

calibrate: $(VENV)/.run-ready ## measure this machine's roofs
	@$(BIN)/edgeroof calibrate $(ARGS)

doctor: $(VENV)/.run-ready ## say what works on this machine, and what to do about the rest
	@$(BIN)/edgeroof doctor $(ARGS)

test: $(VENV)/.dev-ready ## run the tests (fast ones; test-all adds the slow ones)
	@$(BIN)/pytest -q -n 2 $(ARGS)

test-all: $(VENV)/.dev-ready ## run every test this machine can run
	@$(BIN)/pytest -q -m "" $(ARGS)

lint: $(VENV)/.dev-ready ## ruff (style, docstrings, formatting) and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@mkdir -p .mypy_cache/packages && ln -sfn "$(CURDIR)" .mypy_cache/packages/edgeroof
	@MYPYPATH=.mypy_cache/packages $(BIN)/mypy -p edgeroof.profiler -p edgeroof.workloads -p edgeroof.reports \
	  -p edgeroof.kernels -p edgeroof.paper -m edgeroof.api -m edgeroof.cli -m edgeroof.compare -m edgeroof.sweep

format: $(VENV)/.dev-ready ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

notebook: $(VENV)/.dev-ready ## execute docs/example.ipynb again and keep its outputs
	@$(BIN)/python tools/run_notebook.py docs/example.ipynb

benchmarks: $(VENV)/.dev-ready ## measure edgeroof itself: profiling overhead, report load, trace import (TRACE)
	@$(BIN)/python benchmarks/overhead.py
	@$(BIN)/python benchmarks/report_load.py
	@$(BIN)/python benchmarks/trace_import.py $(TRACE) $(call option,HTA_PYTHON,--hta-python)

screenshots: $(VENV)/.dev-ready ## pictures of measured and projected reports into docs/images (ARGS: --measured RUN --projected RUN)
	@$(BIN)/python tools/screenshots.py $(ARGS)

clean: ## remove the environment and caches, keep runs
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
