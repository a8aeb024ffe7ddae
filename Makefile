# What `make run` needs is Go alone. Everything else that tests and checks need, deploy/local/install fetches.

GO ?= go
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
# Where the machine cannot be given what a test needs, the test is skipped and says so. In CI that fails the run.
INSTALL := deploy/local/install
OPTIONAL := || [ "$${CI:-}" != true ]

.DEFAULT_GOAL := build
.PHONY: run build test test-go test-chaos test-browser fuzz lint lint-go lint-web lint-documents fmt check bench bench-go bench-load clean

run: ## Start one durable process with the demo: http://127.0.0.1:8080
	$(GO) build -o bin/eventissuer ./cmd/eventissuer
	exec bin/eventissuer serve --demo $(ARGS)

build: ## Build the programs into bin/
	$(GO) build -o bin/ ./cmd/...

test: ## Run every test: race detector, embedded broker, real Kafka, Redis and Chromium
	$(INSTALL) kafka redis chromium web schema-suite toxiproxy $(OPTIONAL)
	$(MAKE) --no-print-directory test-go test-chaos test-browser

# Never from the cache: it does not see that a server was installed since a test was skipped.
test-go:
	deploy/local/with-servers $(GO) test -race -count=1 -timeout 25m $(TESTFLAGS) ./...

# With the machine for itself. CHAOS says for how long; EVENTISSUER_TEST_SEED repeats the draws of a run.
test-chaos:
	EVENTISSUER_TEST_CHAOS=$(or $(CHAOS),3m) $(GO) test -race -count=1 -timeout $(or $(CHAOS_TIMEOUT),15m) -v -run PromisesAreKept ./loadtest/chaos

test-browser:
	deploy/local/browser-tests

fuzz: ## Run every fuzz target, one after the other: FUZZTIME=10m each, FUZZ=regexp for some
	GO=$(GO) deploy/local/fuzz

lint: lint-go lint-web lint-documents ## Check format, style, import directions, modules and the API's documents

lint-go:
	$(INSTALL) lint
	.local/bin/golangci-lint fmt --diff
	$(GO) vet ./...
	.local/bin/golangci-lint run
	$(GO) mod tidy -diff

lint-web:
	$(INSTALL) web $(OPTIONAL)
	deploy/local/check-web

lint-documents:
	$(INSTALL) web $(OPTIONAL)
	GO=$(GO) deploy/local/check-documents

fmt: ## Format the Go code
	$(INSTALL) lint
	.local/bin/golangci-lint fmt

check: lint test build ## Everything that must hold before a change lands

bench: bench-go bench-load ## Measure everything; takes a quarter of an hour and wants the machine for itself

bench-go: ## The Go benchmarks, those on real Kafka too; BENCH=regexp picks some
	$(INSTALL) kafka redis $(OPTIONAL)
	deploy/local/with-servers $(GO) test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -timeout 30m ./...

bench-load: ## The server under load from other processes, beside nginx with nchan
	loadtest/bench

clean: ## Delete what was built, but not what was installed
	rm -rf bin
