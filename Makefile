# One target per duty. `make run` and `make test` each set up everything they need.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run test lint unit compat compat-base compat-full build-compat-java build-compat-kafka-python build-compat-registry build-compat-go build-compat-js build-compat-rust compat-page cluster-test cluster-fast compose-test chaos up down sim sim-fast spec spec-fast bench lock format clean

VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev

# The first Python that is new enough: 3.11 is what the lock was made for.
define FIND_PYTHON
for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
  if command -v $$python >/dev/null 2>&1 && \
     $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
  python=; \
done; \
if [ -z "$$python" ]; then \
  echo "Walrus needs Python 3.11 or newer, and found none. Install it, or say where it is:" >&2; \
  echo "    make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; \
fi
endef

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input

help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## */\1\t/' | expand -t 16

install: $(DEV_STAMP)  ## set up .venv with everything the lock names

$(BIN)/python:
	@$(FIND_PYTHON); echo "setting up $(VENV) with $$python"; $$python -m venv $(VENV)

# As an installed package is: where Python may write no bytecode, each start would compile everything.
COMPILE_SOURCES := $(BIN)/python -m compileall -q broker engine raft

$(RUN_STAMP): requirements.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(COMPILE_SOURCES)
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

run: $(RUN_STAMP)  ## one node with its data in ./data; ARGS="--kafka-port 9093" goes to `walrus serve`
	$(BIN)/walrus serve $(ARGS)

test: lint unit compat-base cluster-fast sim-fast spec-fast  ## the whole test command

lint: $(DEV_STAMP)  ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each file of tests stays in one worker, so that what it starts is started once.
unit: $(DEV_STAMP)  ## tests of the sources, on all cores; TESTS="-k recovery" narrows them
	$(BIN)/python -m pytest tests -m "not cluster and not compose" -n auto --dist loadfile $(TESTS)

compat: compat-base compat-full compat-go compat-js compat-rust  ## real clients against a real server, each language's own included
	$(COMPAT_PYTEST) -m page $(TESTS)

# Of other languages only Java: what it needs is small.
COMPAT_PYTEST := $(BIN)/python -m pytest compat-tests -n auto --dist loadfile --timeout 240

compat-base: $(DEV_STAMP)  ## the clients in Python, C and Java; TESTS="-k test_kcat" narrows them
	$(COMPAT_PYTEST) -m "not go and not js and not rust and not full" $(TESTS)

compat-full: $(DEV_STAMP)  ## what compat-base has no time for: older versions, three nodes
	$(MAKE) --no-print-directory build-compat-java build-compat-kafka-python build-compat-registry
	$(COMPAT_PYTEST) -m full $(TESTS)

# What builds a client is not set up here: without Go, npm or Cargo its tests are left out, and say so
# (where CI is set they fail). By its plain name, because a recipe that names $(MAKE) runs under `make -n`.
compat-%: $(DEV_STAMP)  ## clients in go, js or rust: build them, and run their tests
	@command -v $(TOOL_$*) >/dev/null 2>&1 || { \
	  echo "NOT TESTED: the clients in $* need $(TOOL_$*), and there is none here" >&2; \
	  [ -z "$$CI" ]; exit; }; \
	make --no-print-directory build-compat-$* && $(COMPAT_PYTEST) -m "$* and not page" $(TESTS)

compat-page: $(DEV_STAMP) build-compat-go build-compat-js build-compat-rust  ## write docs/kafka-compat.md from what clients ask
	REWRITE=1 $(BIN)/python -m pytest compat-tests/test_page.py

TOOL_go := go
TOOL_js := npm
TOOL_rust := cargo

build-compat-go:
	cd compat-tests/go && go build -o ../../build/compat/go/ ./...

build-compat-js:
	mkdir -p build/compat/js
	cp compat-tests/js/package.json compat-tests/js/package-lock.json build/compat/js
	cd build/compat/js && npm ci --silent --no-audit --no-fund

build-compat-rust:
	mkdir -p build/compat/rust
	cp -rp compat-tests/rust/. build/compat/rust
	cd build/compat/rust && cargo build --quiet

# Kafka's own programs, clients and Connect, in two versions.
KAFKA_VERSIONS := 3.9.1 4.3.1

build-compat-java: $(foreach version,$(KAFKA_VERSIONS),build/kafka-jars/$(version)/.fetched)

build/kafka-jars/%/.fetched: compat-tests/java/pom.xml
	mvn --batch-mode --quiet --file $< -Dkafka.version=$* dependency:copy-dependencies \
	  -DoutputDirectory=$(CURDIR)/$(@D)
	@touch $@

# A schema registry that keeps its schemas in topics, as its project publishes it.
REGISTRY := io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all

build-compat-registry: build/registry/.fetched

build/registry/.fetched:
	mvn --batch-mode --quiet dependency:copy -Dartifact=$(REGISTRY) -DoutputDirectory=$(CURDIR)/$(@D)
	tar --extract --gzip --file $(@D)/*.tar.gz --directory $(@D)
	rm $(@D)/*.tar.gz
	@touch $@

# Two versions of kafka-python, each in a folder that its tests put before all others.
build-compat-kafka-python: $(foreach version,2.0 3.0,build/kafka-python/$(version)/.installed)

build/kafka-python/%/.installed: compat-tests/kafka_python/requirements-%.txt | $(BIN)/python
	$(PIP) install --require-hashes --no-deps --upgrade --target $(@D) -r $<
	@touch $@

# One cluster at a time: each is three processes.
CLUSTER_SECONDS ?= 5
CLUSTER_PYTEST := CLUSTER_SECONDS=$(CLUSTER_SECONDS) $(BIN)/python -m pytest -m cluster

cluster-test: $(DEV_STAMP)  ## three real nodes: every scenario, and a minute of chaos
	$(CLUSTER_PYTEST) tests/cluster tests/chaos $(TESTS)

# What every change must pass; the others and chaos take longer.
cluster-fast: $(DEV_STAMP)
	$(CLUSTER_PYTEST) $(addprefix tests/cluster/test_,smoke.py rollover.py recovery.py resilience.py)

cluster-test-%: $(DEV_STAMP)  ## one scenario, as cluster-test-smoke; CLUSTER_SECONDS=60 takes longer
	$(CLUSTER_PYTEST) tests/cluster/test_$(subst -,_,$*).py $(TESTS)

compose-test: $(DEV_STAMP)  ## the same in containers: the smoke and the resilience scenario
	CLUSTER_SECONDS=$(CLUSTER_SECONDS) $(BIN)/python -m pytest tests/cluster/test_compose.py $(TESTS)

MINUTES ?= 10
chaos: $(DEV_STAMP)  ## kills, cuts and pauses for MINUTES; fails on any loss, copy or disorder
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(ARGS)

up:  ## three nodes in containers; see docs/cluster.md
	$(COMPOSE) up --build --detach

down:  ## stop them and remove their data
	$(COMPOSE) down --volumes

# Compose v2 is a command of docker; before, it was a program of its own.
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

SEEDS ?= 100
FIRST ?= 1
sim: $(DEV_STAMP)  ## simulated clusters, seeds FIRST to FIRST+SEEDS-1
	$(BIN)/python -m tests.sim.raft --seeds $(SEEDS) --first $(FIRST)
	$(BIN)/python -m tests.sim.cluster --seeds $(SEEDS) --first $(FIRST)

# The part of it that every change must pass: a few minutes on two cores.
sim-fast: $(DEV_STAMP)
	$(BIN)/python -m tests.sim.raft --seeds 200 --duration 20 --jobs $$(nproc)
	$(BIN)/python -m tests.sim.raft --first 1000000 --seeds 60 --duration 20 --jobs $$(nproc)
	$(BIN)/python -m tests.sim.raft --first 2000000 --seeds 20 --duration 20 --jobs $$(nproc)
	$(BIN)/python -m tests.sim.raft --first 3000000 --seeds 20 --duration 20 --jobs $$(nproc)
	$(BIN)/python -m tests.sim.cluster --seeds 200

# TLC and a Java runtime are big, and nothing else needs them: they live in a folder of their own.
SPEC_STAMP := build/spec/.installed

$(SPEC_STAMP): spec/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv build/spec
	build/spec/bin/python -m pip --disable-pip-version-check --quiet --no-input install \
	  --require-hashes --only-binary :all: -r spec/requirements.txt
	@touch $@

SPEC ?= --all
spec: $(SPEC_STAMP)  ## the TLA+ specification and its mutants; SPEC="two-seals --set MaxCrashes=1" takes other bounds
	build/spec/bin/python -m spec.run $(SPEC)

spec-fast: $(SPEC_STAMP)
	build/spec/bin/python -m spec.run --fast

# The peers and matplotlib are big, and nothing else needs them: they live in a folder of their own.
BENCH := build/bench
BENCH_PYTHON := PYTHONPATH=.:compat-tests $(BIN)/python

$(BENCH)/.kafka: bench/java/pom.xml
	mvn --quiet -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(BENCH)/kafka
	@touch $@

# Built in a copy, because cargo writes its lock beside the sources.
$(BENCH)/.rust: bench/rust/Cargo.toml $(wildcard bench/rust/src/*.rs bench/rust/src/bin/*.rs)
	mkdir -p $(BENCH)/rust && cp -r bench/rust/. $(BENCH)/rust/
	cargo build --quiet --release --manifest-path $(BENCH)/rust/Cargo.toml
	@touch $@

# The engine's distributed form is in no registry: ORIGINAL is where git finds it, a folder or an address.
$(BENCH)/.original:
	rm -rf $(BENCH)/original && git clone --quiet $(ORIGINAL) $(BENCH)/original
	cargo +nightly build --quiet --release --manifest-path $(BENCH)/original/distributed-walrus/Cargo.toml
	@touch $@

$(BENCH)/.plots: bench/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv $(BENCH)/plots
	$(BENCH)/plots/bin/python -m pip --disable-pip-version-check --quiet --no-input install \
	  --require-hashes --only-binary :all: -r bench/requirements.txt
	@touch $@

BENCH_RESULT := $(or $(BENCH_OUTPUT),$(BENCH)/result)
bench: $(DEV_STAMP) $(BENCH)/.kafka $(BENCH)/.rust $(BENCH)/.plots $(if $(ORIGINAL),$(BENCH)/.original)  ## against Kafka and the Rust engine; ARGS="--quick" for a few minutes
	$(COMPILE_SOURCES)
	BENCH_OUTPUT=$(BENCH_OUTPUT) ORIGINAL=$(ORIGINAL) $(BENCH_PYTHON) -m bench $(ARGS)
	$(BENCH)/plots/bin/python -m bench.plots $(BENCH_RESULT)/result.json $(BENCH_RESULT)

format: $(DEV_STAMP)  ## what the linters can put right by themselves
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The resolver lives in a folder of its own, so that it is no dependency of the project.
UV := build/lock/bin/uv
COMPILE := $(UV) pip compile pyproject.toml --group build --generate-hashes --universal \
  --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" --quiet
LOCK_FLAGS ?=

lock:  ## write the lock anew from pyproject.toml; LOCK_FLAGS=--upgrade takes the newest versions
	@$(FIND_PYTHON); $$python -m venv build/lock
	build/lock/bin/pip --disable-pip-version-check --quiet install uv==0.13.8
	$(COMPILE) $(LOCK_FLAGS) --output-file requirements.txt
	$(COMPILE) $(LOCK_FLAGS) --group dev --constraint requirements.txt --output-file requirements-dev.txt

clean:  ## remove what was built and cached; keeps ./data and .venv
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
