# What can be asked of a checkout. Needs GNU make 3.81 and a POSIX shell; `make setup` fetches the rest.

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DEFAULT_GOAL := help

# The interpreter of .venv, where the newest one found is not wanted: make setup PYTHON=python3.12
PYTHON :=
# Handed on: make test ARGS='tests/store -k commit', make lock ARGS=--upgrade
ARGS :=

BIN := .venv/bin
PY := $(BIN)/python

# What a shell may carry that would bend what runs here.
unexport PYTHON ARGS PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS VIRTUAL_ENV
unexport PYTEST_ADDOPTS PYTEST_PLUGINS PYTEST_DISABLE_PLUGIN_AUTOLOAD MYPYPATH

##@ Everyday
.PHONY: help setup demo serve test lint format generate clean

help: ## List what can be asked for
	@awk -F ':.*## ' '/^##@ / { printf "%s%s\n", (groups++ ? "\n" : ""), substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

setup: ## Build .venv from requirements-dev.lock
	@sh scripts/setup $(if $(PYTHON),"$(PYTHON)")

demo: setup ## Run one task from start to answer; no key, no network
	@$(PY) -m scripts.demo

serve: setup ## Start the service on port 9000
	@exec $(PY) -m agent_service serve

test: setup ## Run all tests, or those of ARGS; names what is left out
	@$(PY) scripts/install_tools.py --if-possible
	@$(PY) -m pytest $(or $(ARGS),-n auto)

lint: setup ## Check style, types, layers, protos and YAML
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/yamllint --strict .
	@sh scripts/breaking

format: setup ## Fix what a tool can fix: style, order of imports
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(BIN)/buf format --write

generate: setup ## Write the code generated from protos/
	@sh scripts/generate
	@sh scripts/generate-clients

clean: ## Remove .venv, .tools, builds and caches
	@rm -rf .venv .tools build dist *.egg-info clients/typescript/node_modules clients/typescript/dist
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Checks
.PHONY: check-generated test-aio test-image test-kill test-transport test-brownout test-nginx test-litellm test-abuse soak audit scenario-server tools

check-generated: setup ## Check that generated code matches protos/
	@sh scripts/generate --check
	@sh scripts/generate-clients --check

test-aio: setup ## Test the server on the transport aio; 10 minutes
	@TEST_TRANSPORT=aio $(PY) -m pytest -n auto tests/server tests/e2e tests/client $(ARGS)

test-image: setup ## Build the image and try it; 2 minutes
	@$(PY) -m scripts.try_image

test-kill: setup ## Kill two servers of one file 300 times; 10 minutes
	@$(PY) -m tests.faults.killing $(ARGS)

test-transport: setup ## 100,000 calls on each transport; 5 minutes
	@TRANSPORT_CALLS=100000 $(PY) -m pytest -s tests/server/transport/test_many.py

test-brownout: setup ## 200 tasks while a provider fails; 4 minutes
	@BROWNOUT_S=60 $(PY) -m pytest -s tests/llm/test_brownout.py

test-nginx: setup ## 50 streams through nginx, and more; 8 minutes
	@$(PY) scripts/install_tools.py --if-possible
	@PROXY_STREAM_S=120 $(PY) -m pytest -s tests/e2e/wire/test_nginx.py $(ARGS)

test-litellm: setup ## Run tasks through LiteLLM; downloads 600 MB once
	@sh scripts/test-litellm $(ARGS)

test-abuse: setup ## Attack a server beside an innocent caller
	@ABUSE_TIMES=3 $(PY) -m pytest -s tests/faults/test_attacks.py

soak: setup ## Call a server for 10 minutes; its memory must not grow
	@SOAK_S=600 $(PY) -m pytest -s tests/faults/test_soak.py

audit: ## Ask PyPI for known vulnerabilities of what is installed
	@sh scripts/python-tool pip-audit 2.10.1 pip-audit --strict --disable-pip --no-deps -r requirements.lock

scenario-server: setup ## Start the server that the clients' checks call
	@exec $(PY) -m tests.clients.server $(ARGS)

tools: setup ## Build grpcurl, helm, nginx … into .tools/bin; needs Go
	@$(PY) scripts/install_tools.py

##@ Measurements
.PHONY: bench bench-quick bench-long bench-limiter bench-telemetry bench-chunks bench-transports bench-breadth bench-instructions bench-guard try-grpcio

bench: setup ## Every row beside a bare gRPC echo; needs Go; 9 minutes
	@$(PY) -m bench $(ARGS)

bench-quick: setup ## The same, roughly; 90 seconds
	@$(PY) -m bench --quick $(ARGS)

bench-long: setup ## What long tasks and many tasks add to each call
	@$(PY) bench/long_task.py $(ARGS)

bench-limiter: setup ## What the limiter needs: time and memory
	@$(PY) bench/limiter.py $(ARGS)

bench-telemetry: setup ## What metrics and traces add to the CPU of a RunTask
	@$(PY) -m bench --only telemetry $(ARGS)

bench-chunks: setup ## The CPU of reading a chunk of a model's stream
	@$(PY) bench/stream_chunk.py $(ARGS)

bench-transports: setup ## The CPU of calls on both transports, side by side
	@$(PY) -m bench --only transports $(ARGS)

bench-breadth: setup ## Entries into our functions for a RunTask, a delta
	@$(PY) bench/breadth.py $(ARGS)

bench-instructions: setup ## Instructions of a RunTask; needs valgrind; 2 minutes
	@$(PY) -m bench.instructions $(ARGS)

bench-guard: setup ## Compare the counts of a task with bench/guard.json
	@$(PY) -m bench.guard $(ARGS)

try-grpcio: ## Try versions of grpcio: ARGS="1.80.1 1.85.3"
	@sh scripts/try-grpcio $(ARGS)

##@ Release
.PHONY: image manifests descriptor sbom lock record package-metadata release-check

image: ## Build the image agent-service:VERSION
	@sh scripts/image $(ARGS)

manifests: setup ## Write deploy/k8s from the Helm chart
	@$(PY) scripts/install_tools.py --if-possible
	@sh scripts/manifests

descriptor: setup ## Write the contract as a descriptor set, for Envoy
	@sh scripts/descriptor $(ARGS)

sbom: ## List what a deployment installs (CycloneDX)
	@mkdir -p build
	@sh scripts/python-tool cyclonedx-bom 7.5.0 cyclonedx-py requirements --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file build/sbom.cdx.json requirements.lock
	@echo "build/sbom.cdx.json"

lock: ## Write both lock files from pyproject.toml
	@sh scripts/lock $(ARGS)

record: setup ## Record the demo as docs/demo.svg
	@$(PY) scripts/record.py

package-metadata: setup ## Write version and addresses into all packages
	@$(PY) scripts/package_metadata.py

release-check: setup ## Build, install and call every package; 5 minutes
	@$(PY) -m scripts.release_check $(ARGS)
