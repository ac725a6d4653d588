# nitrino: `make` alone lists the targets.
GO        ?= go
# Inputs of each target, not seconds: when seconds run out, Go before 1.27 can take
# its own deadline for a failure (golang.org/issue/75804).
FUZZTIME  ?= 10000x
SOAK      ?= 200
# Where make run keeps logs and sockets, what is added to the ports, and where make
# image puts the card image.
DIR       ?= build/board
BASE      ?= 20000
CARD      ?= build/nitrino.img
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What is needed from Debian: to simulate, to build the card image, to run it in
# QEMU, and to test all of it.
SIM   = qemu-system-x86 seabios ipxe-qemu ipmitool openssh-client curl
BUILD = linux-source-6.12 gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc libc6-dev bc bison flex patch xz-utils rsync device-tree-compiler
BOARD = qemu-system-arm
TEST  = freeipmi-tools openipmi python3-sushy redfishtool shellcheck dosfstools e2fsprogs mtools dnsmasq-base iproute2 snmptrapd \
	open-iscsi libiscsi-bin tgt fio sg3-utils qemu-utils qemu-block-extra nbdkit

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# What takes long to build is kept here, for all users of make.
export NITRINO_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nitrino
# Network namespaces and loop devices need root: the tests run by sudo, not go.
KEPT   := PATH,HOME,GOFLAGS,GOPROXY,NITRINO_CACHE,SOAK
ASROOT := $(if $(SUDO),-exec "sudo --preserve-env=$(KEPT)")
# Everything is built without cgo, so that it runs on a board without a libc.
export CGO_ENABLED = 0

# Debian's package linux-source-6.12 comes from bookworm's security archive.
# need,PACKAGES installs those that are missing, as root or with sudo.
need = missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "installing" $$missing; \
		$(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi

.DEFAULT_GOAL := help
.PHONY: help deps build run sim kernel image test unit race fuzz e2e lint bench soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

deps: ## install all that is needed from Debian's packages (as root or with sudo)
	@$(call need,$(SIM) $(BUILD) $(BOARD) $(TEST))

build: ## build the commands into bin/
	$(GO) build -trimpath -o bin/ ./cmds/...

run: build ## build the card image, boot it in QEMU in front of a QEMU host, until Ctrl-C
	@$(call need,$(SIM) $(BUILD) $(BOARD))
	@bin/mkcard -o build/emulated.img -bmc image/emulated.json
	@exec bin/emulate -card build/emulated.img -dir $(DIR) -base $(BASE) -host pc

sim: build ## run the board's services in one process in front of a QEMU host, until Ctrl-C
	@$(call need,$(SIM))
	@exec bin/bmcsim -dir build/sim -base $(BASE)

kernel: build ## build the kernel (once a machine: it is kept)
	@$(call need,$(BUILD))
	@bin/mkcard -only kernel

image: build ## build the card image, to be flashed (CARD=FILE)
	@$(call need,$(BUILD))
	@bin/mkcard -o $(CARD)

test: deps lint unit race fuzz e2e ## test everything

unit: ## the quick tests, which need nothing but Go
	$(GO) test ./...

race: ## the quick tests again under the race detector
	CGO_ENABLED=1 $(GO) test -race ./...

fuzz: ## each fuzz target for FUZZTIME
	@FUZZTIME=$(FUZZTIME) GO=$(GO) test/fuzz

e2e: build ## real clients, QEMU and kernels against bmcsim and the booted card image
	@bin/mkcard -only kernel
	$(GO) test -count=1 -tags e2e -timeout 40m $(ASROOT) ./...

lint: ## formatting, vet, staticcheck, shellcheck
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "gofmt would change:" $$bad; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e,bench ./...
	GOARCH=arm64 $(GO) vet -tags guest ./board/virt ./uinit
	$(GO) run $(STATICCHECK) -tags e2e,bench ./...
	shellcheck test/fuzz .ci/run

bench: deps build ## measure, side by side with the peers
	@bin/mkcard -only kernel
	$(GO) test -count=1 -tags bench -run '^$$' -bench . -benchtime 3s ./test/...

soak: deps build ## kill -9 and cut the power of the board's software SOAK times while it writes
	SOAK=$(SOAK) $(GO) test -count=1 -tags e2e -timeout 2h -run '^Test(Kill|PowerCut|ManyClones)' $(ASROOT) ./test ./block/cow ./block/volume

clean: ## remove what was built, and the simulated board's state
	rm -rf bin build
