# What there is to do here; `make` lists it. Whatever is longer than a few lines is a script in .ci/.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down build packages test test-unit test-integration lint fmt fuzz bench-router clean

GO ?= go
# Arguments for `orchestrator up` and `orchestrator down`, such as ARGS='-f cluster.yaml'.
ARGS ?=
FUZZTIME ?= 30s
ROUNDS ?= 5
# VERBOSE=-v names each test.
VERBOSE ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: packages build ## install PostgreSQL if it is missing, build, and start a cluster in the background
	@bin/orchestrator up --detach $(ARGS)

down: ## stop the cluster that `make up` has started; its data stays
	@bin/orchestrator down $(ARGS)

build: ## build bin/orchestrator
	@command -v $(GO) >/dev/null || { echo "Go is not installed (or not in PATH): see https://go.dev/doc/install" >&2; exit 1; }
	$(GO) build -o bin/orchestrator ./cmd/orchestrator

packages:
	@.ci/packages.sh run

test: test-unit test-integration ## all tests, with what they need installed if it is missing

test-unit: ## the tests of each package, under the race detector
	@.ci/test.sh unit $(VERBOSE)

test-integration: ## the tests on real clusters (testenv)
	@.ci/test.sh integration $(VERBOSE)

lint: ## golangci-lint with gofumpt and vet, shellcheck, the import-direction test
	@.ci/lint.sh

fmt: ## rewrite the code as `make lint` wants it formatted
	@"$$(.ci/tools.sh golangci-lint)" fmt --config .ci/golangci.yml ./...

fuzz: ## each fuzz target for FUZZTIME (30s)
	@FUZZTIME=$(FUZZTIME) .ci/fuzz.sh

bench-router: ## pgbench -S direct, through pgbouncer and through the router (ROUNDS=5)
	@.ci/bench-router.sh $(ROUNDS)

clean: ## remove what was built
	rm -rf bin
	$(GO) clean -testcache
