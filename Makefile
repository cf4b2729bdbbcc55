# make help lists the targets. Nothing here is needed to build or use Rondo: go build ./cmd/rondo does that.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
TOOL      = $(GO) tool -modfile=tools/go.mod
FUZZTIME ?= 30s
ROUNDS   ?= 5
SEEDS    ?= 500
FIRST    ?= $(shell date +%s)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: build
build: ## the program, as bin/rondo
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/rondo ./cmd/rondo

.PHONY: test
test: ## the tests
	$(GO) test -timeout 10m ./...

.PHONY: check
check: lint race build ## what must pass before a commit: form, static checks, tests with the race detector, build

.PHONY: lint
lint: ## form and static checks
	@unformed=$$($(TOOL) gofumpt -l .); if [ -n "$$unformed" ]; then printf 'not formatted; run make fmt:\n%s\n' "$$unformed"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

.PHONY: fmt
fmt: ## format everything
	$(TOOL) gofumpt -l -w .

.PHONY: race
race: ## the tests with the race detector
	$(GO) test -race -timeout 15m ./...

.PHONY: fuzz
fuzz: ## every fuzz target in turn, FUZZTIME each
	@targets=$$($(GO) test -list '^Fuzz' ./... | awk '/^Fuzz/ {names[++n] = $$1} /^ok/ {for (i = 1; i <= n; i++) print $$2, names[i]; n = 0}'); \
	if [ -z "$$targets" ]; then echo "no fuzz target found"; exit 1; fi; \
	while read -r package name; do \
		echo "== $$package $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$package" < /dev/null; \
	done <<< "$$targets"

.PHONY: bench
bench: ## what an operation costs next to a bare HTTP server, as in docs/benchmarks.md
	RONDO_BENCH=1 RONDO_BENCH_ROUNDS=$(ROUNDS) $(GO) test -count=1 -v -timeout 60m ./internal/perf
	$(GO) test -run '^$$' -bench Ratio ./peer

.PHONY: microbench
microbench: ## the benchmarks of the packages
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: e2e
e2e: ## long tests with real processes: killed, stopped, restarted
	RONDO_E2E=1 $(GO) test -count=1 -v -timeout 20m ./internal/e2e

.PHONY: sim
sim: ## whole clusters in virtual time under every fault: SEEDS of them, and every script
	RONDO_SIM_SEEDS=$(SEEDS) $(GO) test -count=1 -v -timeout 30m -run 'TestSimulation|TestScripts|TestSlowNode' ./node

.PHONY: sim-nightly
sim-nightly: ## 10,000 seeds that were not played before: FIRST is the first
	RONDO_SIM_FIRST=$(FIRST) RONDO_SIM_SEEDS=10000 $(GO) test -count=1 -v -timeout 6h -run 'TestSimulation' ./node

.PHONY: planted
planted: ## that the tests find the bugs of internal/plant
	$(GO) test -tags planted -count=1 -timeout 20m -run Planted ./...

.PHONY: faults
faults: ## real processes under real faults: killed, paused, split, full disks. Needs root, ip, nft, mkfs.ext4; RONDO_REQUIRE_FAULTS=1 fails without
	RONDO_FAULTS=1 $(GO) test -count=1 -v -parallel 8 -timeout 20m ./internal/faults

.PHONY: compose-test
compose-test: ## the Compose files with real containers; needs a Docker engine
	RONDO_REQUIRE_DOCKER=1 $(GO) test -count=1 -v -timeout 10m ./deploy

.PHONY: image
image: ## the container image, as rondo:latest
	docker build -f deploy/Dockerfile -t rondo .

.PHONY: clean
clean: ## what make built
	rm -rf bin
