# make help lists what there is. Everything needs only Go, git and a C compiler.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := $(CURDIR)/bin
OUT := $(CURDIR)/out
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# How make test shows results: standard-quiet is a line per package,
# standard-verbose a line per test.
TEST_FORMAT ?= standard-quiet

# How long each fuzz target runs: a duration, or a number of runs such as 1000x.
FUZZTIME ?= 30s

.PHONY: help
help: ## Print this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/isthmus
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/isthmus ./cmd/isthmus

.PHONY: test
test: $(BIN)/gotestsum $(BIN)/controller-gen $(BIN)/jsonschema ## Check formatting, generated files and every test
	@BIN=$(BIN) OUT=$(OUT) TEST_FORMAT=$(TEST_FORMAT) FUZZTIME=$(FUZZTIME) hack/check/test.sh

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME
	@mkdir -p $(OUT)
	@FUZZTIME=$(FUZZTIME) hack/check/fuzz.sh

.PHONY: lint
lint: $(BIN)/golangci-lint ## Lint every module of ours
	@hack/check/lint.sh

.PHONY: generate
generate: $(BIN)/controller-gen $(BIN)/jsonschema ## Generate CRDs, JSON Schemas, deep copies and reference pages from the types
	hack/check/generate.sh $(CURDIR)

.PHONY: golden
golden: ## Rewrite what tests compare with; read the diff before you commit it
	go test $$(git grep -lE 'flag\.Bool\("update"' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's#^#./#') -update

.PHONY: bench
bench: ## Measure: go benchmarks, then side by side with istioctl, kubectl and Flux
	go test -run '^$$' -bench . -benchmem $$(git grep -lE '^func Benchmark' -- '*_test.go' ':!hack' | xargs -n1 dirname | sort -u | sed 's#^#./#')
	@mkdir -p $(OUT)
	go run ./test/bench -json $(OUT)/bench.json -plot $(OUT)/scale.svg -plot-members $(OUT)/scale-members.svg -plot-peers $(OUT)/peers.svg

.PHONY: demo
demo: build ## Run a hub and two members on this machine; KEEP=1 leaves them running
	@go run ./test/demo $(if $(KEEP),-keep)

.PHONY: tools
tools: $(BIN)/golangci-lint $(BIN)/gotestsum $(BIN)/controller-gen $(BIN)/jsonschema ## Build the tools that the other targets use

.PHONY: clean
clean: ## Remove what make built here; the cache of control planes stays
	rm -rf $(BIN) $(OUT)

# The tools are built from modules of their own, pinned there by go.sum.
$(BIN)/golangci-lint: hack/check/go.mod
	@echo "building golangci-lint; two minutes the first time"
	cd hack/check && go build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/gotestsum: hack/check/go.mod
	cd hack/check && go build -o $@ gotest.tools/gotestsum

$(BIN)/controller-gen: hack/tools/go.mod
	cd hack/tools && go build -o $@ sigs.k8s.io/controller-tools/cmd/controller-gen

$(BIN)/jsonschema: hack/tools/go.mod $(wildcard hack/tools/jsonschema/*.go)
	cd hack/tools && go build -o $@ ./jsonschema
