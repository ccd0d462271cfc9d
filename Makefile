# Tasks of SELM. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROTOS = $(shell find proto/selm -name '*.proto' | sort)

.DEFAULT_GOAL := help
.PHONY: help up demo test unit integration e2e lint proto chart chaos bench tools clean

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

proto: $(VENV)/.installed ## format the contract and write the Python stubs into selm/api
	$(BIN)/buf format -w proto
	$(BIN)/python proto/generate.py
