# Commands of the repository; `make help` lists them. Scripts do the work: tools/setup, seed-analytics, pytest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

LEARNERS ?= 500
WEEKS ?= 16
SEED ?= 1
DATA ?=
KEEP ?=
TESTS ?=
CAMPAIGNS ?=
export PYTHON
export R_LIBS_USER := $(CURDIR)/.cache/R
export STAN_MODEL_DIR := $(CURDIR)/.cache/stan

PYTHON_PATHS := $(wildcard jobs tests benchmarks tools)
SHELL_SCRIPTS = $(shell grep -rlIE '^\#!(/usr/bin/env bash|/bin/sh)$$' .ci tools tests r-plumber-common --exclude-dir=__pycache__)
YAML_PATHS := $(wildcard .github ct.yaml compose.yaml argocd)
# Fast ones first. What a worker starts (PostgreSQL, the R services) is its own, so a file's tests stay together.
SUITES := $(wildcard $(addprefix tests/,unit chart stages services models))
WORKERS ?= 2
# Values that the chart's property tests draw.
EXAMPLES ?= 200

include Makefile.images

.NOTPARALLEL:  # every part begins with the same set-up

.PHONY: help setup demo stop test test-some test-r test-suites test-images e2e lint format docs bench bench-builds validate clean

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  demo takes LEARNERS=500 WEEKS=16 SEED=1, or DATA=folder of a public data set; KEEP=1 leaves it running."
	@echo "  test takes TESTS='what pytest takes', for example TESTS='tests/stages -k irt'; WORKERS=2 of them side by side."
	@echo "  bench takes CHART_PEER=folder of a chart to render beside ours (benchmarks/chart.py says where one is)."

setup:  ## Install what this machine lacks (demo and test do it by themselves)
	@tools/setup run

demo:  ## Run the whole pipeline here, on simulated learners or DATA, and write a report
	@tools/setup run
	@.venv/bin/seed-analytics demo --learners "$(LEARNERS)" --weeks "$(WEEKS)" --seed "$(SEED)" \
	  $(if $(DATA),--data "$(DATA)") $(if $(filter-out 0 false no,$(KEEP)),--keep)

stop:  ## End what demo KEEP=1 left running
	@if [ -x .venv/bin/seed-analytics ]; then .venv/bin/seed-analytics stop; else echo "Nothing was set up, so nothing runs."; fi

# Apart, so that `make --keep-going test` runs them all, whatever became of the one before.
test: lint $(if $(TESTS),test-some,test-r test-suites test-images)  ## Run linters and every suite: R, unit, chart, stages, services, models, images

e2e:  ## Run the suite on a real cluster: that of the current context, or of kind (E2E='what pytest takes')
	@tools/setup test
	@tests/cluster/run $(E2E)

test-some:
	@tools/setup test
	@.venv/bin/pytest $(TESTS)

test-suites:
	@tools/setup test
	@echo "== pytest (skipped tests and the reasons are listed at the end)"
	@.venv/bin/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --examples $(EXAMPLES) $(SUITES)

test-images:
	@tools/setup test
	@echo "== pytest, the images"
	@.venv/bin/pytest --numprocesses $(WORKERS) --dist loadfile tests/images

test-r:
	@tools/setup test
	@echo "== R tests"
	@Rscript r-plumber-common/run-tests.R

lint:  ## Check style and types
	@tools/setup test
	@echo "== ruff, mypy, yamllint, zizmor, actionlint, shellcheck, lintr"
	@.venv/bin/ruff check $(PYTHON_PATHS)
	@.venv/bin/ruff format --check $(PYTHON_PATHS)
	@.venv/bin/mypy
	@$(if $(YAML_PATHS),.venv/bin/yamllint --strict --config-file charts/.ct/lintconf.yaml $(YAML_PATHS))
	@.venv/bin/zizmor --offline --quiet .github
	@if [ -x .cache/actionlint/actionlint ]; then .cache/actionlint/actionlint; else echo "Without Go there is no actionlint: the workflows are not checked by it"; fi
	@shellcheck $(SHELL_SCRIPTS)
	@Rscript r-plumber-common/run-lint.R

format:  ## Rewrite Python files in the common style
	@tools/setup test
	@.venv/bin/ruff check --fix $(PYTHON_PATHS)
	@.venv/bin/ruff format $(PYTHON_PATHS)

docs:  ## Write what is made from code: the settings table, the chart's schemas and values reference
	@tools/setup test
	@.venv/bin/python tools/readme_settings.py
	@.venv/bin/python tools/chart_values.py

bench:  ## Measure speed and memory beside peers, as one table
	@tools/setup test
	@.venv/bin/python -m benchmarks

bench-builds:  ## Measure the images, and how long each takes to build without its cache
	@tools/setup test
	@BENCH_BUILDS=true .venv/bin/python -m benchmarks images

validate:  ## Run the long campaigns of docs/models/validation.md: hours; CAMPAIGNS='growth --fits 3000' runs less
	@tools/setup test
	@.venv/bin/python tests/validate.py $(CAMPAIGNS)

clean: stop  ## Remove everything that setup, demo and test have made
	@rm -rf .venv .cache .demo report.html .pytest_cache .ruff_cache .mypy_cache .hypothesis
