# Every target does its own set-up. PYTHON=... chooses the interpreter, PYTEST=... adds options.
.DEFAULT_GOAL := help
.PHONY: help install demo test check collector collector-validate up down logs pin e2e bench bench-table docs lock clean
SHELL := /bin/bash
BIN := .venv/bin
UV_VERSION := 0.13.9
NEEDS_DOCKER := command -v docker >/dev/null || { echo "docker is not installed (docs/compose.md)" >&2; exit 2; }
UV_COMPILE := .cache/uv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
  --no-emit-find-links --custom-compile-command "make lock"

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## create .venv from requirements.lock; instant when nothing changed
	@.ci/install

demo: install ## one request through three services, shown as Tempo and as Langfuse see it
	@collector/build.sh >/dev/null || echo "demo: goes on without a Collector, by direct export" >&2
	@$(BIN)/otelbridge demo

test: install ## all tests; those marked collector need Go (CI insists on it)
	@deploy/tools/compose/build.sh >/dev/null || echo "test: docker-compose.yml is not rendered" >&2
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

up: ## the whole stack in containers (docs/compose.md); first says what would go wrong
	@python3 deploy/up.py

down: ## stop it; data stays (docker compose --profile '*' down --volumes removes it too)
	@$(NEEDS_DOCKER); docker compose --profile '*' down

logs: ## follow its logs
	@$(NEEDS_DOCKER); docker compose --profile '*' logs --follow --tail 100

pin: ## write the digests of the images' tags into docker-compose.yml and Dockerfile
	@python3 deploy/pin.py

e2e: install ## the cases of tests/stack/ against the containers that `make up` started
	@$(BIN)/python -m pytest -m e2e_stack tests/stack $(PYTEST)

bench: install ## measure against the named peers; figures go to benchmarks/results/
	@shopt -s nullglob; missed=""; for file in benchmarks/[a-z]*.py; do name="$$(basename "$${file%.py}")"; \
	case "$$name" in record_emitters|table) continue;; esac; \
	echo "== $$name"; $(BIN)/python -m "benchmarks.$$name" || missed="$$missed $$name"; done; \
	[ -z "$$missed" ] || { echo "bench: missed a bar or failed:$$missed" >&2; exit 1; }

bench-table: install ## write the README's table from benchmarks/results/
	@$(BIN)/python -m benchmarks.table

docs: install ## write what is generated: docs/, collector/, grafana/
	@$(BIN)/otelbridge config --markdown > docs/configuration.md
	@$(BIN)/otelbridge doctor --markdown > docs/troubleshooting.md
	@$(BIN)/python collector/render.py
	@$(BIN)/python -m grafana.dashboards_src
	@$(BIN)/python -m grafana.alerts_src
	@$(BIN)/python -m grafana.guide_tables

lock: ## resolve requirements.lock again from pyproject.toml
	@python3 -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv==$(UV_VERSION)
	@$(UV_COMPILE) --upgrade --python-version 3.11 --extra local --group dev \
	pyproject.toml --output-file requirements.lock
	@$(UV_COMPILE) --upgrade --python-version 3.13 --extra demo --constraint requirements.lock \
	--no-emit-package duckdb --no-emit-package nanoarrow \
	pyproject.toml --output-file deploy/image/requirements.lock
	@echo 'hatchling>=1.25,<2' | $(UV_COMPILE) --upgrade --python-version 3.13 - \
	--output-file deploy/image/build.lock

clean: ## remove what the other targets made
	@rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/results
