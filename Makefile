# Everything from a fresh clone: `make demo` and `make test` set up what they need and say what they cannot.
# The second time they find it in place (.venv, .cache) and start at once.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# where it is set every process compiles every module anew: a worker's start costs 2.8 s of CPU instead of 1.5
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help install fmt lint type imports docs test test-long test-all test-unit matrix coverage demo exporters faults operations perf backtest kafka classes redis registry browser promtool alerts dashboard charts stand-ins lock release up down \
	ci clean

VENV := .venv
BIN := $(VENV)/bin
EXPORTERS := .cache/exporters
READY := $(VENV)/.ready
SOURCES := muse_stream tests deploy/run_uv.py deploy/release.py deploy/sbom.py deploy/healthcheck.py deploy/grafana/dashboard.py deploy/grafana/picture.py deploy/helm/render.py $(wildcard perf)
COMPILE := $(BIN)/python deploy/run_uv.py pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links
COMPOSE := docker compose --file deploy/compose.yaml
# a test that talks to a broker mostly waits: the tests run in several processes, which share one broker
JOBS ?= 8
# each long test has workers, often brokers of its own: more of them at once starve each other
LONG_JOBS ?= 4
# what failed is listed at the end, and what took longest: a run of CI leaves nothing but its output
PYTEST := $(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder -rfE --durations 20 --durations-min 5
# what `make matrix` runs on
PYTHONS ?= 3.11 3.12 3.13
# extra arguments: make test ARGS="-k ladder", make demo ARGS="--events FILE.parquet"
ARGS ?=

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements-dev.lock requirements-build.lock pyproject.toml deploy/setup.sh deploy/run_uv.py
	@sh deploy/setup.sh
	@touch $@

install: $(READY) ## make .venv with the pinned dependencies and this package (all other targets do it when needed)

fmt: $(READY) ## format the code and apply the safe fixes of the linter
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

lint: $(READY) type imports ## everything that reads the code without running it: ruff, mypy strict, import contracts
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

type: $(READY) ## mypy, strict
	@$(BIN)/mypy $(SOURCES)

imports: $(READY) ## the import contracts of pyproject.toml
	@$(BIN)/lint-imports

docs: $(READY) ## the API reference, from docstrings: build/docs/index.html
	@$(BIN)/mkdocs --quiet build

kafka: $(READY) ## fetch what the real broker needs (image or jars) and say which one it will be
	@$(BIN)/python -m muse_stream.testing kafka

classes: kafka # tests start some thirty brokers
	@$(BIN)/python -m muse_stream.testing classes

browser: ## a headless Chromium for the tests of reports, installed where it may be
	@sh deploy/browser.sh

promtool: ## what tests the alerts, fetched where it may be
	@sh deploy/promtool.sh

alerts: $(READY) promtool ## the tests of alerts, runbooks and dashboard
	@$(BIN)/pytest -n0 -q tests/deploy/test_alerts.py tests/deploy/test_dashboard.py

redis: $(READY) ## fetch what the real Redis needs and say which one it will be
	@$(BIN)/python -m muse_stream.testing redis

registry: $(READY) ## fetch the real Schema Registry that tests start (Apicurio, by Maven)
	@$(BIN)/python -m muse_stream.testing registry

.PHONY: servers
servers: $(READY) # all of these at once: each is a start of Python
	@$(BIN)/python -m muse_stream.testing kafka classes redis registry

exporters: $(EXPORTERS)/.ready ## the libraries that docs/for-model-owners.md has recipes for (6 GB, once): the tests run these then

$(EXPORTERS)/.ready: requirements-exporters.lock | $(READY)
	@echo "setup: installing the exporters' libraries into $(EXPORTERS)"
	@$(BIN)/python -m venv --clear $(EXPORTERS)
	@$(BIN)/python deploy/run_uv.py pip install --quiet --no-build --require-hashes --python $(EXPORTERS)/bin/python -r $<
	@touch $@

test: $(READY) servers browser promtool ## the tests, the real broker included
	@$(PYTEST) -m "not long and not slow" $(ARGS)

# only of the files that have such tests: to collect all costs each process ten seconds of CPU
test-long: $(READY) servers browser promtool ## the tests that take long and have a shorter one in `make test`: CI runs both
	@$(PYTEST) -m "long and not slow" --numprocesses $(LONG_JOBS) $(ARGS) $$(grep -rl --include='test_*.py' 'mark\.long' tests)

test-all: $(READY) servers browser promtool ## the tests, long ones and repetitions too: before a release or a new Kafka (CONTRIBUTING.md)
	@$(PYTEST) $(ARGS)

test-unit: $(READY) ## the tests that need no broker
	@$(PYTEST) -m "not broker and not long and not slow" $(ARGS)

matrix: $(READY) ## the tests that need no broker, on every Python (PYTHONS="3.12 3.13" for some)
	@sh deploy/matrix.sh "$(PYTHONS)" --numprocesses $(JOBS) --dist loadfile -m "not broker and not long and not slow" $(ARGS)

coverage: $(READY) servers browser promtool ## the tests, and where no test goes: terminal and htmlcov/index.html; fails below the floor
	@$(PYTEST) -m "not slow" --cov --cov-report=term-missing:skip-covered --cov-report=html $(ARGS)

demo: $(READY) ## the guided demo on a real broker; ends by itself
	@$(BIN)/muse-stream demo $(ARGS)

faults: $(READY) ## brokers killed and restarted under load, on several versions: what is kept (about 30 minutes)
	@$(BIN)/python -m tests.faults $(ARGS)

.PHONY: store-faults
store-faults: $(READY) kafka redis ## the Redis of a generation store broken in every way under load: gaps, losses (about 15 minutes)
	@$(BIN)/python -m tests.store_faults $(ARGS)

operations: $(READY) kafka ## the situations of docs/operations.md, on one broker and on three (about 25 minutes)
	@$(BIN)/python -m tests.operations $(ARGS)

.PHONY: alert-drill
alert-drill: $(READY) kafka redis registry promtool ## eight faults made for real, the alert that each brings, and what is kept (about 25 minutes)
	@$(BIN)/python -m tests.alert_drill $(ARGS)

.PHONY: upgrade
upgrade: $(READY) kafka ## a rolling upgrade under load and back again: ARGS="--from REVISION" (about 3 minutes)
	@$(BIN)/python -m tests.upgrade $(ARGS)

perf: $(READY) kafka ## the benchmarks behind the README's table
	@$(BIN)/python -m perf $(ARGS)

backtest: $(READY) ## policies for quantile maps on labelled history: MUSE_BACKTEST_EVENTS=FILE, or ARGS="--events FILE"
	@$(BIN)/python -m perf.history $(ARGS)

lock: $(READY) ## pin all dependencies anew: the newest that pyproject.toml admits, with hashes, naming no index
	@$(COMPILE) --upgrade --extra cli --extra redis --extra registry --extra calibrate --extra compiled --extra signing --extra tracing pyproject.toml --output-file requirements.lock
	@$(COMPILE) --upgrade --constraint requirements.lock --extra dev pyproject.toml --output-file requirements-dev.lock
	@$(COMPILE) --upgrade --constraint requirements-dev.lock --extra exporters pyproject.toml --output-file requirements-exporters.lock
	@printf 'setuptools\nuv\n' | $(COMPILE) --upgrade --constraint requirements-dev.lock - --output-file requirements-build.lock
	@printf 'fastavro\nnumpy\nonnxruntime\nquixstreams\n' | $(COMPILE) --upgrade - --output-file perf/peers/quixstreams.lock

release: $(READY) ## try the release of VERSION=x.y.z: version, changelog, build, check; ARGS=--write commits and tags; no upload
	@$(BIN)/python deploy/release.py $(VERSION) $(ARGS)

dashboard: $(READY) ## write the Grafana dashboard anew, from its code
	@$(BIN)/python deploy/grafana/dashboard.py

charts: $(READY) ## check the Helm chart, render it, validate that for Kubernetes 1.30 to 1.34, and write deploy/helm/rendered
	@sh deploy/charts.sh

stand-ins: kafka registry ## images for `make up` on a machine that can pull none, made of Debian's packages (root, dockerd, debootstrap)
	@sh deploy/stand_ins.sh

.PHONY: sbom licences audit-dependencies
sbom: $(READY) ## the bill of materials of what is shipped: build/muse_stream.cdx.json (CycloneDX)
	@$(BIN)/python deploy/sbom.py sbom build/muse_stream.cdx.json

licences: $(READY) ## name, version and licence of every package that is shipped
	@$(BIN)/python deploy/sbom.py licences

audit-dependencies: $(READY) ## known vulnerabilities of the locked versions; says so where no database can be asked (ARGS=--strict: fails)
	@$(BIN)/python deploy/sbom.py audit $(ARGS)

up: ## broker, Redis, workers of all roles, Prometheus and Grafana in containers, and a promotion (deploy/compose.yaml)
	@$(COMPOSE) up --build --detach

down: ## stop and remove what `make up` started
	@$(COMPOSE) down --volumes

ci: ## what .ci/run does: lint, docs and test
	@./.ci/run

clean: ## remove everything that was made here: .venv, .cache, build leftovers
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov \
		build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
