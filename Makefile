# sallyport: what a person can ask for.
#
#   make help    every target
#   make demo    build, then show an encrypted call in ten seconds
#   make test    everything CI runs: vet, lint, race, short fuzz, real peers
#   make e2e CASE=CallOut    one case against the real peers
#   make load    a ladder of calls a second, to what the machine holds
#   make flood   requests as fast as they go, and clients that die in a call
#   make soak    an hour of calls and of phones that come and go; its figures go to docs
#   make differential        do both PBXs understand what the edge does? COUNT requests, from seed FIRST

export CGO_ENABLED = 0

CACHE      := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sallyport
BIN        := bin/sallyport
LOADBIN    := bin/sallyload
LINT_VER   := v2.12.2
LINT       := $(CACHE)/bin/golangci-lint-$(LINT_VER)
VULN_VER   := v1.9.0
VULN       := $(CACHE)/bin/govulncheck-$(VULN_VER)
INPUTS     ?= 300000
CASE       ?= .*
E2E_TIME   ?= 55m
COUNT      ?= 20000
FIRST      ?= 1
UNIT       := $(shell go list ./... 2>/dev/null | grep -v -e '/e2e$$' -e '/e2e/bench$$' -e '/e2e/load$$')

.PHONY: all help build test unit race e2e fuzz bench bench-media bench-sip bench-trunk load lint vuln demo peers clean differential flood soak

all: build

help: ## every target
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-14s%s\n", $$1, $$2 }' Makefile

build: ## the static binaries, bin/sallyport and bin/sallyload
	@mkdir -p bin
	go build -trimpath -o $(BIN) ./cmd/sallyport
	go build -trimpath -o $(LOADBIN) ./cmd/sallyload

demo: build ## a call through the edge, then an edge to point a phone at
	$(BIN) demo $(DEMO)

test: build ## what CI runs
	go vet ./...
	$(MAKE) lint
	$(MAKE) race
	$(MAKE) vuln
	$(MAKE) fuzz INPUTS=20000
	$(MAKE) e2e
	$(MAKE) load LOAD_QUICK=1

unit: ## unit tests, without the race detector
	go test $(UNIT)

race: peers ## unit tests with the race detector
	CGO_ENABLED=1 go test -race -timeout 10m $(UNIT)

e2e: build peers ## real peers in network namespaces, two cases at a time; CASE=Name for one
	@go test -list '^Test($(CASE))$$' ./e2e | grep -q '^Test' || \
	  { echo "no case is named $(CASE); these are:"; go test -list . ./e2e | sed -n 's/^Test/  /p'; exit 1; }
ifeq ($(CASE),.*)
	SALLYPORT_BIN=$(CURDIR)/$(BIN) bash e2e/shards.sh $(E2E_TIME)
else
	SALLYPORT_BIN=$(CURDIR)/$(BIN) go test -count=1 -timeout $(E2E_TIME) ./e2e -run '^Test($(CASE))$$'
endif

differential: build peers ## COUNT (20000) spoilt requests, from seed FIRST on: chan_sip and chan_pjsip must understand what the edge does
	SALLYPORT_BIN=$(CURDIR)/$(BIN) COUNT=$(COUNT) FIRST=$(FIRST) go test -count=1 -v -timeout $(E2E_TIME) ./e2e -run '^TestDifferential$$'

# Two minutes of what CI has for twelve seconds, and a thousand clients for a hundred.
flood: build peers ## seven methods as fast as it goes for FLOOD_TIME=2m, and KILLED=1000 clients that die in a call
	SALLYPORT_BIN=$(CURDIR)/$(BIN) FLOOD_TIME=$(or $(FLOOD_TIME),2m) KILLED=$(or $(KILLED),1000) go test -count=1 -v -timeout $(E2E_TIME) ./e2e -run '^Test(MessageFlood|AbruptClose)$$'

soak: build peers ## SOAK_TIME=1h of SOAK_CALLS=500 at a time, to docs/soak.md, .json and .svg
	SALLYPORT_BIN=$(CURDIR)/$(BIN) SOAK_TIME=$(or $(SOAK_TIME),1h) SOAK_CALLS=$(or $(SOAK_CALLS),500) SOAK_OUT=$(CURDIR)/docs \
	  go test -count=1 -v -timeout 25h ./e2e -run '^TestSoakShort$$'

peers: ## install the real peers, and gcc for the race detector; quick when they are there
	@bash e2e/peers/install.sh

# A count of inputs, not a time: where a time ends, Go before 1.27 may fail with "context
# deadline exceeded" (golang.org/issue/75804). And to make inputs small that are only new
# took nearly all of a short time.
fuzz: ## each fuzz target with INPUTS (300000, a minute or so)
	@set -e; for pkg in $(UNIT); do \
	  for f in $$(go test -vet=off -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "fuzz $$pkg $$f $(INPUTS)"; \
	    go test -vet=off -run '^$$' -fuzz "^$$f\$$" -fuzztime $(INPUTS)x -fuzzminimizetime 100x $$pkg; \
	  done; done

bench: ## benchmarks of the hot paths
	go test -run '^$$' -bench . -benchmem $(UNIT)

bench-media: build peers ## media through us and through rtpengine, side by side (some 12 minutes); BENCH_QUICK=1 for a smoke test
	SALLYPORT_BIN=$(CURDIR)/$(BIN) BENCH_JSON=$(CURDIR)/bin/bench-media.json go test -count=1 -timeout $(E2E_TIME) ./e2e/bench -run '^TestMedia$$' -v

bench-sip: build peers ## signalling through us and through Kamailio, side by side (BENCH_ROUNDS=3, of some 6 minutes each); BENCH_QUICK=1 for a smoke test
	SALLYPORT_BIN=$(CURDIR)/$(BIN) BENCH_JSON=$(CURDIR)/bin/bench-sip.json go test -count=1 -timeout $(E2E_TIME) ./e2e/bench -run '^TestSIP$$' -v

bench-trunk: build peers ## a trunk of 200 calls beside the same calls through a tunnel (some 3 minutes); BENCH_QUICK=1 for a smoke test
	SALLYPORT_BIN=$(CURDIR)/$(BIN) BENCH_JSON=$(CURDIR)/bin/bench-trunk.json go test -count=1 -timeout $(E2E_TIME) ./e2e/bench -run '^Test(Trunk|PaperIsCompared|ESPOnPaper)$$' -v

# Not by `go test`: so it is the test itself that Ctrl-C and SIGTERM end, and nothing is left.
load: build peers ## SIPp, the edge and Asterisk at LOAD_RATES=5,10,20,…,200 calls/s, each for LOAD_SECONDS=10; LOAD_QUICK=1 for a smoke test
	go test -c -o bin/load.test ./e2e/load
	cd e2e/load && SALLYPORT_BIN=$(CURDIR)/$(BIN) LOAD_OUT=$(CURDIR)/bin exec $(CURDIR)/bin/load.test \
	  -test.v -test.timeout $(E2E_TIME) -test.run '$(if $(LOAD_QUICK),.,^TestLoad$$)'

# Each clone has a cache of its own: what was found in one that is gone could not be read.
lint: $(LINT) ## golangci-lint, and gofmt
	@test -z "$$(gofmt -l cmd sipproxy media tlsconf policy e2e | tee /dev/stderr)"
	GOLANGCI_LINT_CACHE=$(CACHE)/lint$(CURDIR) $(LINT) run --allow-parallel-runners ./...

$(LINT):
	@echo "build golangci-lint $(LINT_VER) (some minutes, once)"
	@mkdir -p $(dir $@) && GOFLAGS= GOBIN=$(dir $@)tmp go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VER)
	@mv $(dir $@)tmp/golangci-lint $@ && rmdir $(dir $@)tmp

vuln: $(VULN) ## govulncheck, if its database can be reached
	@bash .ci/vuln $(VULN)

$(VULN):
	@mkdir -p $(dir $@) && GOFLAGS= GOBIN=$(dir $@)tmp go install golang.org/x/vuln/cmd/govulncheck@$(VULN_VER)
	@mv $(dir $@)tmp/govulncheck $@ && rmdir $(dir $@)tmp

clean: ## remove bin
	rm -rf bin
