# `make` lists the targets. Everything that a target needs is set up by itself, below .venv and .local.

# Another cluster is used only when it is named: make install CONTEXT=<its context> IMAGES=<registry/prefix>
CONTEXT ?=
IMAGES ?=
export CONTEXT IMAGES
unexport KUBECONFIG

PYTHON3 ?= python3
PYTHON := .venv/bin/python
LOCAL := $(PYTHON3) deploy/local
PYTEST := $(PYTHON) -m pytest

.DEFAULT_GOAL := help
.PHONY: help up down status images install demo check lint test bench lock clean purge

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: install .venv/stamp ## the whole loop on real data: train, serve, drift, retrain, roll back
	@$(PYTHON) examples/flights/demo.py

test: lint install ## everything that CI runs: check, chart, tests on the local cluster
	@$(PYTHON) deploy/tests.py $(if $(CONTEXT),-m "not local")

check: lint ## lint, types, layers, generated files, unit and property tests; no cluster, a minute
	@$(PYTEST) tests/unit tests/property

up: ## start a real Kubernetes on this machine (the first time builds it: 10 minutes)
	@$(LOCAL) up

down: ## end the local cluster; nothing is left running
	@$(LOCAL) down

status: ## components, versions and pods of the local cluster
	@$(LOCAL) status

images: ## build the images and bring them into the local cluster
	@$(if $(CONTEXT),true,$(LOCAL) up && $(LOCAL) images)

install: images ## install or upgrade the operator with Helm
	@$(PYTHON3) deploy/install.py

lint: .venv/stamp
	@$(PYTHON) deploy/checks

bench: bench-serving bench-training ## every benchmark

bench-serving: .venv/stamp ## the server beside MLServer, KServe, PyTriton, FastAPI and bare echoes (15 minutes)
	@$(PYTHON) bench/serving/run.py

bench-training: .venv/stamp ## a training run beside the same fit in a bare script
	@$(PYTHON) bench/training/overhead.py

bench-rollout: .venv/stamp ## how often good versions are rolled back, and how soon bad ones
	@$(PYTHON) bench/rollout/simulate.py

lock: .venv/stamp ## resolve the requirements anew (with hashes)
	@$(PYTHON) -m pip install -q uv && sh deploy/lock.sh

clean: ## remove .venv and the tools' caches (not the cluster, not its builds)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

purge: down clean ## also end the cluster and remove its data
	@rm -rf .local
	@echo "builds and layers for the next time stay in $${HOMEOSTAT_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/homeostat}"

.venv/stamp: requirements/dev.txt deploy/environment.py
	@$(PYTHON3) deploy/environment.py
