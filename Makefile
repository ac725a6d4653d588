# nitrino: `make` alone lists the targets.
GO        ?= go
# Inputs of each target, not seconds: when seconds run out, Go before 1.27 can take
# its own deadline for a failure (golang.org/issue/75804).
FUZZTIME  ?= 30000x
SOAK      ?= 200
DIR       ?= build/sim
BASE      ?= 20000
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What running and testing need from Debian.
PACKAGES = gcc libc6-dev qemu-system-x86 seabios ipxe-qemu ipmitool freeipmi-tools openipmi openssh-client curl shellcheck

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Everything is built without cgo, so that it runs on a board without a libc.
export CGO_ENABLED = 0

.DEFAULT_GOAL := help
.PHONY: help deps build run test unit race fuzz e2e lint bench soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

deps: ## install what is needed from Debian's packages (as root or with sudo)
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "installing" $$missing; \
		$(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi

build: ## build the commands into bin/
	$(GO) build -trimpath -o bin/ ./cmds/...

run: deps build ## run the board's services in front of a QEMU host, until Ctrl-C
	@exec bin/bmcsim -dir $(DIR) -base $(BASE)

test: deps lint unit race fuzz e2e ## test everything

unit: ## the quick tests, which need nothing but Go
	$(GO) test ./...

race: ## the quick tests again under the race detector
	CGO_ENABLED=1 $(GO) test -race ./...

fuzz: ## each fuzz target for FUZZTIME
	@FUZZTIME=$(FUZZTIME) GO=$(GO) test/fuzz

e2e: build ## real clients and a real QEMU against bmcsim
	$(GO) test -count=1 -tags e2e -timeout 20m ./...

lint: ## formatting, vet, staticcheck, shellcheck
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "gofmt would change:" $$bad; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e,bench ./...
	$(GO) run $(STATICCHECK) -tags e2e,bench ./...
	shellcheck test/fuzz .ci/run

bench: deps build ## measure, side by side with ipmi_sim
	$(GO) test -count=1 -tags bench -run '^$$' -bench . -benchtime 3s ./test/...

soak: deps build ## kill -9 the board's software SOAK times while it writes
	SOAK=$(SOAK) $(GO) test -count=1 -tags e2e -timeout 2h -run TestKill ./test/...

clean: ## remove what was built, and the simulated board's state
	rm -rf bin build
