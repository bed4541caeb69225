# Every target does its own set-up. PYTHON=... chooses the interpreter, PYTEST=... adds options.
.DEFAULT_GOAL := help
.PHONY: help install demo test check collector collector-validate bench docs lock clean
SHELL := /bin/bash
BIN := .venv/bin
UV_VERSION := 0.13.9

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## create .venv from requirements.lock; instant when nothing changed
	@.ci/install

demo: install ## one request through three services, shown as Tempo and as Langfuse see it
	@collector/build.sh >/dev/null || echo "demo: goes on without a Collector, by direct export" >&2
	@$(BIN)/otelbridge demo

test: install ## all tests; those marked collector need Go (CI insists on it)
	@if collector/build.sh >/dev/null; then marks="not bench"; \
	elif [ -n "$$CI" ]; then exit 1; \
	else marks="not bench and not collector"; echo "test: without the collector tests" >&2; fi; \
	$(BIN)/python -m pytest -m "$$marks" --durations=15 $(PYTEST)

check: install ## lint and types
	@$(BIN)/ruff check .
	@$(BIN)/mypy

collector: ## build the Collector into .cache/; instant when nothing changed
	@collector/build.sh

collector-validate: ## every configuration of collector/ with its overlays, by the built Collector
	@collector/validate.sh

bench: install ## measure against the named peers; figures go to benchmarks/results/
	@set -e; shopt -s nullglob; for file in benchmarks/[a-z]*.py; do name="$${file%.py}"; \
	echo "== $$name"; $(BIN)/python -m "$${name//\//.}"; done

docs: install ## write what is generated: docs/, collector/, grafana/
	@$(BIN)/otelbridge config --markdown > docs/configuration.md
	@$(BIN)/python collector/render.py
	@$(BIN)/python -m grafana.dashboards_src
	@$(BIN)/python -m grafana.alerts_src
	@$(BIN)/python -m grafana.guide_tables

lock: ## resolve requirements.lock again from pyproject.toml
	@python3 -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv==$(UV_VERSION)
	@.cache/uv/bin/uv pip compile --quiet --upgrade --universal --generate-hashes \
	--python-version 3.11 --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" --extra local --group dev \
	pyproject.toml --output-file requirements.lock

clean: ## remove what the other targets made
	@rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/results
