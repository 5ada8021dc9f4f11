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

.PHONY: help setup demo serve test test-kill test-brownout test-nginx test-litellm soak test-abuse try-grpcio bench bench-long bench-limiter bench-telemetry bench-chunks scenario-server image test-image tools lint format generate check-generated descriptor manifests package-metadata release-check audit sbom lock clean

help: ## List what can be asked for
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

setup: ## Build .venv out of requirements-dev.lock, if it is not there yet
	@sh scripts/setup $(if $(PYTHON),"$(PYTHON)")

demo: setup ## Run one task from start to answer, without a key or a network
	@$(PY) scripts/demo.py

serve: setup ## Start the service on port 9000
	@exec $(PY) -m agent_service serve

test: setup ## Run all tests; what needs a toolchain that is missing is left out, and named, unless CI=true
	@sh scripts/install-tools --if-possible
	@$(PY) -m pytest $(ARGS)

test-kill: setup ## Kill two working servers of one file 300 times and count what became of their tasks; ten minutes
	@$(PY) -m tests.faults.killing $(ARGS)

test-brownout: setup ## Run 200 tasks through a minute of a failing provider; takes four
	@BROWNOUT_S=60 $(PY) -m pytest -s tests/llm/test_brownout.py

test-nginx: setup ## Run 50 streams and 50 silent calls of two minutes through nginx, and the rest; takes eight
	@sh scripts/install-tools --if-possible
	@PROXY_STREAM_S=120 $(PY) -m pytest -s tests/e2e/test_nginx.py $(ARGS)

test-litellm: setup ## Run tasks through LiteLLM's proxy, over both of OpenAI's APIs; fetches 600 MB once, takes a minute or two
	@sh scripts/test-litellm $(ARGS)

soak: setup ## Call a server for ten minutes, giving up three calls of ten, and see that what it holds does not grow
	@SOAK_S=600 $(PY) -m pytest -s tests/faults/test_soak.py

test-abuse: setup ## Attack a server, three times as long as the tests do, beside an innocent caller; tells the figures
	@ABUSE_TIMES=3 $(PY) -m pytest -s tests/faults/test_attacks.py

try-grpcio: ## Try versions of grpcio against what a client can do: make try-grpcio ARGS="1.80.1 1.85.3"
	@sh scripts/try-grpcio $(ARGS)

bench: setup ## Measure a full RunTask beside a bare gRPC echo, both in one run
	@$(PY) bench/run_task.py $(ARGS)

bench-long: setup ## Measure what a task's length and the number of tasks add to an event, a list and a watcher
	@$(PY) bench/long_task.py $(ARGS)

bench-limiter: setup ## Measure what the limiter costs: time, memory, and what idle tenants leave
	@$(PY) bench/limiter.py $(ARGS)

bench-telemetry: setup ## Measure what metrics and traces add to the CPU of a RunTask
	@$(PY) bench/telemetry.py $(ARGS)

bench-chunks: setup ## Measure the CPU of reading a chunk of a model's stream, over both of OpenAI's APIs
	@$(PY) bench/stream_chunk.py $(ARGS)

scenario-server: setup ## Start a server that every client's check can be run against, until Ctrl-C
	@exec $(PY) -m tests.clients.server $(ARGS)

image: ## Build the container image agent-service:VERSION with docker or podman
	@sh scripts/image $(ARGS)

test-image: ## Build the image and try it, also where no container engine runs; takes a minute or two
	@sh scripts/test-image

tools: ## Bring what some tests need (grpcurl, helm, nginx …) into .tools/bin; takes Go, and Debian for nginx
	@sh scripts/install-tools

lint: setup ## Check style, types, the layers of the code, the protos and YAML
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/yamllint --strict .
	@sh scripts/breaking

format: setup ## Mend what can be mended by a tool
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(BIN)/buf format --write

generate: setup ## Write agent_service/v1 and the code of the clients out of protos/
	@sh scripts/generate
	@sh scripts/generate-clients

check-generated: setup ## Check that agent_service/v1 and the code of the clients are what protos/ generates
	@sh scripts/generate --check
	@sh scripts/generate-clients --check

descriptor: setup ## Write build/agent_service.binpb: the contract and its comments, for Envoy and grpcurl
	@sh scripts/descriptor $(ARGS)

manifests: setup ## Write deploy/k8s out of the Helm chart
	@sh scripts/install-tools --if-possible
	@sh scripts/manifests

package-metadata: setup ## Write the version and addresses of pyproject.toml into all packages
	@$(PY) scripts/package_metadata.py

release-check: setup ## Build every package, install each into a fresh project, call a server with it
	@$(PY) scripts/release_check.py $(ARGS)

audit: ## Ask PyPI for known vulnerabilities of what a deployment installs; fails where it cannot be asked
	@sh scripts/python-tool pip-audit 2.10.1 pip-audit --strict --disable-pip --no-deps -r requirements.lock

sbom: ## List what a deployment installs, with hashes, as build/sbom.cdx.json (CycloneDX)
	@mkdir -p build
	@sh scripts/python-tool cyclonedx-bom 7.5.0 cyclonedx-py requirements --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file build/sbom.cdx.json requirements.lock
	@echo "build/sbom.cdx.json"

lock: ## Write both lock files out of pyproject.toml
	@sh scripts/lock $(ARGS)

clean: ## Remove everything that was made here: .venv, .tools, builds and caches
	@rm -rf .venv .tools build dist *.egg-info clients/typescript/node_modules clients/typescript/dist
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
