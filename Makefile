# firstlight: from bare metal to ready.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
LAB     ?= examples/two-node-lab
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
ROOT    := $(if $(filter 0,$(shell id -u)),,sudo -E)
CACHE   ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/firstlight

# What Debian packages the tests' foreign peers, the lab and the image builder come in.
RUN_PACKAGES  := qemu-system-x86 ovmf ipxe squashfs-tools kmod iproute2 ca-certificates
TEST_PACKAGES := $(RUN_PACKAGES) ipmitool openipmi freeipmi-tools isc-dhcp-client udhcpc curl tcpdump dnsmasq-base ibsim-utils infiniband-diags opensm busybox-static cpio zstd procps gcc libc6-dev clang-19

.PHONY: help
help: ## show this
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/firstlight and bin/firstlight-agent, both static; with gcc, bin/firstlight-gpu as well
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/firstlight ./cmd/firstlight
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/firstlight-agent ./cmd/firstlight-agent
	@if command -v gcc >/dev/null; then $(MAKE) -s build-gpu; fi

# NVML's symbols are looked up when they are first called: a driver lacks some.
.PHONY: build-gpu
build-gpu: ## build bin/firstlight-gpu, which works with a node's GPUs; needs gcc
	@mkdir -p bin
	CGO_ENABLED=1 CGO_CFLAGS='-O2 -Wno-deprecated-declarations' $(GO) build -trimpath -ldflags '-s -w -extldflags=-Wl,-z,lazy' -o bin/firstlight-gpu ./cmd/firstlight-gpu

.PHONY: deps test-deps
deps: ## install the Debian packages that the lab and the image builder need
	@$(MAKE) -s install PACKAGES="$(RUN_PACKAGES)"
test-deps: ## install those that the tests need as well
	@$(MAKE) -s install PACKAGES="$(TEST_PACKAGES)"

.PHONY: install
install:
	@missing=; for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		$(ROOT) apt-get -qq update; \
		DEBIAN_FRONTEND=noninteractive $(ROOT) apt-get -qq install -y --no-install-recommends $$missing >/dev/null; \
	fi

.PHONY: demo
demo: deps build ## two powered-off virtual machines go to ready; then see the report
	@$(ROOT) bin/firstlight lab down $(LAB) >/dev/null 2>&1 || true
	@echo '$$ firstlight lab up $(LAB)';    $(ROOT) bin/firstlight lab up $(LAB)
	@echo; echo '$$ firstlight apply $(LAB)'; $(ROOT) bin/firstlight apply -auto-approve $(LAB)
	@echo; echo '$$ firstlight plan $(LAB)';  $(ROOT) bin/firstlight plan $(LAB)
	@echo; echo "The machines are still up. Look: firstlight show node-1 $(LAB); firstlight console node-1 $(LAB)"
	@echo "End it: $(ROOT) bin/firstlight lab down $(LAB)"

# A Debian kernel package, unpacked, for tests that boot one.
TEST_KERNEL := $(CACHE)/test-kernel
$(TEST_KERNEL):
	@tmp=$$(mktemp -d) && cd $$tmp && [ -n "$$(apt-cache madison linux-image-amd64 2>/dev/null)" ] || $(ROOT) apt-get -qq update; \
	cd $$tmp && name=$$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/{print $$2; exit}') && apt-get -qq download $$name && \
	mkdir -p $(CACHE) && dpkg-deb -x $$name*.deb $@.new && rm -rf $$tmp && mv $@.new $@

TEST_ENV = FIRSTLIGHT_CACHE=$(CACHE) FIRSTLIGHT_TEST_KERNEL=$(TEST_KERNEL) FIRSTLIGHT_TEST_PTXAS=$(wildcard $(CACHE)/ptxas)

.PHONY: test
test: test-deps build $(TEST_KERNEL) ## every test that needs no GPU: foreign peers and virtual machines included (as root)
	$(if $(ROOT),sudo) env PATH="$$PATH" $(TEST_ENV) $(GO) test -p 1 -timeout 20m $(TESTFLAGS) ./...

.PHONY: check
check: ## gofmt, vet, staticcheck, generated files, import rules, race detector
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change: $$out"; exit 1; }
	$(GO) vet ./... && $(GO) vet -tags bench ./cmd/firstlight ./provision/bmc ./provision/burnin/nvml ./internal/ibsimtest && $(GO) vet -tags gpu ./provision/burnin/cuda
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff
	$(GO) generate ./...
	@git diff --exit-code -- docs examples '*.golden' || { echo "generated files are not what the code gives: commit what go generate wrote"; exit 1; }
	$(GO) test -count=1 ./internal/archtest
	$(GO) test -race -short -skip '^(TestFaultSets|TestHealthy)$$' -timeout 15m ./inventory/... ./fabric/... ./provision ./provision/acceptance ./provision/agent/... ./provision/bmc ./internal/refbmc ./internal/simrack/fabricsim

.PHONY: vm
vm: test-deps build $(TEST_KERNEL) ## the tests that run virtual machines
	$(if $(ROOT),sudo) env PATH="$$PATH" $(TEST_ENV) $(GO) test -count=1 -v -p 1 -timeout 20m ./images ./images/vm ./provision/netboot ./fabric/mad -run 'Integration|Firmware|Lab|Crash|Boot|VM|Machine'
	$(if $(ROOT),sudo) env PATH="$$PATH" $(TEST_ENV) $(GO) test -count=1 -v -timeout 20m ./cmd/firstlight -run TestBringUp

.PHONY: bench
bench: build ## benchmarks of the packages
	$(GO) test -run '^$$' -bench . -benchmem ./inventory ./fabric ./provision/... ./internal/refbmc

.PHONY: bench-boot
bench-boot: test-deps build ## power-on to the agent's call, against dnsmasq; the demo's time; figures of docs/measured.md
	$(if $(ROOT),sudo) env PATH="$$PATH" $(TEST_ENV) FIRSTLIGHT_BENCH_ROUNDS="$(FIRSTLIGHT_BENCH_ROUNDS)" $(GO) test -tags bench -count=1 -v -timeout 60m ./cmd/firstlight -run '^TestBench'

.PHONY: bench-plan
bench-plan: ## validate and plan of 10,000 nodes, and of one changed node; figures of docs/measured.md
	$(GO) test -tags bench -count=1 -v -timeout 30m ./cmd/firstlight -run '^TestPlanFigures$$'

.PHONY: bench-fabric
bench-fabric: test-deps ## fabrics of 6,128 and 16,384 adapters read from ibsim, against ibnetdiscover; figures of docs/measured.md
	$(GO) test -tags bench -count=1 -v -timeout 30m ./cmd/firstlight -run '^TestFabric(Figures|Delayed|Verdict)$$'

.PHONY: bench-bmc
bench-bmc: test-deps ## power states of 1,000 and 10,000 BMCs, against FreeIPMI's ipmipower; bad networks; figures of docs/measured.md
	$(if $(ROOT),sudo) env PATH="$$PATH" FIRSTLIGHT_BENCH_ROUNDS="$(FIRSTLIGHT_BENCH_ROUNDS)" $(GO) test -tags bench -count=1 -v -timeout 30m ./provision/bmc -run '^TestBench'

.PHONY: bench-check
bench-check: test-deps build ## the agent's checks of a node with eight GPUs of a stand-in, one of them hung too; figures of docs/measured.md
	FIRSTLIGHT_AGENT="$(CURDIR)/bin/firstlight-agent" $(GO) test -tags bench -count=1 -v ./provision/burnin/nvml -run '^TestBenchCheck$$'

# The kernels of the CUDA worker, compiled to PTX: KERNEL:ARCHITECTURE:ISA. The
# driver of the node translates it for the GPU that it finds.
KERNELS := provision/burnin/cuda/kernels
PTX     ?= $(KERNELS)
.PHONY: ptx ptx-deps
ptx-deps:
	@$(MAKE) -s install PACKAGES=clang-19
ptx: ptx-deps ## compile the GPU kernels to the PTX that is committed (PTX=DIR: to another place)
	@for k in portable:sm_80:80 ada:sm_89:84 hopper:sm_90a:80; do \
		IFS=: read -r name arch isa <<<"$$k"; \
		clang-19 -x cuda --cuda-device-only --cuda-gpu-arch=$$arch -nocudainc -nocudalib -Wall -Werror -O3 -std=c++17 \
			-S -Xclang -target-feature -Xclang +ptx$$isa -o $(PTX)/$$name.ptx $(KERNELS)/$$name.cu; \
	done

# NVIDIA's assembler, out of Debian's package (non-free, of trixie: older ones do
# not know sm_90a): with it the tests assemble the PTX. 87 MB are downloaded.
PTXAS := $(CACHE)/ptxas
.PHONY: ptxas
ptxas: $(PTXAS) ## get NVIDIA's assembler from Debian's non-free packages, for the tests of the GPU kernels
$(PTXAS):
	@tmp=$$(mktemp -d) && mkdir -p $$tmp/lists/partial $$tmp/cache/archives/partial $(CACHE) && \
	mirror=$$(apt-get indextargets --format '$$(REPO_URI)' 'Created-By: Packages' | grep '/debian/$$' | head -1) && \
	echo "deb $$mirror trixie non-free" >$$tmp/sources.list && \
	apt="-qq -o Dir::Etc::SourceList=$$tmp/sources.list -o Dir::Etc::SourceParts=- -o Dir::State::Lists=$$tmp/lists -o Dir::Cache=$$tmp/cache -o APT::Sandbox::User=root" && \
	$(ROOT) apt-get $$apt update && (cd $$tmp && apt-get $$apt download nvidia-cuda-toolkit) && \
	dpkg-deb --fsys-tarfile $$tmp/nvidia-cuda-toolkit_*.deb | tar -x -C $$tmp ./usr/bin/ptxas && \
	mv $$tmp/usr/bin/ptxas $@ && $(ROOT) rm -rf $$tmp

.PHONY: gpu
STEP ?= .*
gpu: build build-gpu ## measure this machine's GPU (or one STEP: correct, speed, memory, burn); figures of docs/measured.md
	$(GO) test -tags gpu -count=1 -v -timeout 60m ./provision/burnin/cuda -run '^TestGPU$$/^$(STEP)$$'

.PHONY: fuzz
FUZZTIME ?= 1m
fuzz: ## every fuzz target for FUZZTIME (1m)
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep ^Fuzz || true); do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg; \
		done; \
	done

.PHONY: clean
clean: ## end the demo's lab and remove what was built
	@if [ -x bin/firstlight ]; then $(ROOT) bin/firstlight lab down $(LAB) >/dev/null 2>&1 || true; fi
	$(ROOT) rm -rf bin $(LAB)/.firstlight
