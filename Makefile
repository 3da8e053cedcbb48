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
.PHONY: help up down status images install demo check lint test bench bench-% lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: install .venv/stamp ## the whole loop on real data: train, serve, drift, retrain, roll back
	@$(PYTHON) examples/flights/demo.py

test: lint install ## everything that CI runs: check, chart, tests on the local cluster
	@$(PYTEST) tests

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

bench-serving: .venv/stamp ## requests per second of the server beside a bare echo
	@$(PYTHON) bench/serving/run.py

bench-training: .venv/stamp ## a training run beside the same fit in a bare script
	@$(PYTHON) bench/training/overhead.py

bench-rollout: .venv/stamp ## how often good versions are rolled back, and how soon bad ones
	@$(PYTHON) bench/rollout/simulate.py

lock: .venv/stamp ## resolve the requirements anew (with hashes)
	@$(PYTHON) -m pip install -q uv && sh deploy/lock.sh

.venv/stamp: requirements/dev.txt pyproject.toml
	@echo "Python environment in .venv (the first time: a minute)"
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON3=python3.12" >&2; exit 1; }
	@$(PYTHON3) -m venv .venv || { echo "error: python3 -m venv failed; fix: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m pip install --disable-pip-version-check -q --require-hashes -r requirements/dev.txt
	@$(PYTHON) -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "homeostat.pth").write_text(str(pathlib.Path("src").resolve()))'
	@touch $@
