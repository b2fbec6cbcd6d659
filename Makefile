# Thin names over cargo; `make help` lists them.

PREFIX ?= /usr/local
PORT ?= 8899
CLIENTS ?= 15000
FUZZ_SECONDS ?= 60
FUZZ_TARGETS = decoder header session path terminal

.PHONY: help build run test lint bench load faults bench-report sim fuzz install clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

build: ## Both programs, optimized
	cargo build --release --locked

run: ## The server on PORT (8899)
	cargo run --release -- --port $(PORT)

test: ## Every test
	cargo test --locked

sim: ## A million simulated runs (SIM_SEEDS)
	SIM_SEEDS=$${SIM_SEEDS:-1000000} cargo test --locked --release --test sim

# RUSTC_BOOTSTRAP lets a stable compiler count coverage; what is found new stays
# in fuzz/target, so that the corpus of the repository grows by choice alone.
fuzz: ## Each fuzzer for FUZZ_SECONDS (60)
	@if ! cargo fuzz --version >/dev/null 2>&1; then \
		echo "skipped: cargo-fuzz is not there (cargo install cargo-fuzz)"; exit 0; \
	fi; \
	set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/target/corpus/$$target; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run -s none $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=400 -print_final_stats=1; \
	done

lint: ## Formatting, clippy and the documentation's links
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

bench: ## The Criterion benchmarks
	cargo bench --locked

load: ## Load tests: CLIENTS (15000) clients at once
	REACTORD_LOAD_CLIENTS=$(CLIENTS) cargo test --release --locked --test load -- --nocapture

faults: ## Tests under faults in their full form: floods, kills, chaos, ten thousand commands
	REACTORD_FAULTS=full cargo test --release --locked --test faults -- --nocapture

bench-report: build ## Measure against other servers and write docs/BENCHMARKS.md
	cargo run --release --locked --example bench_report

install: build ## Both programs into PREFIX/bin (/usr/local)
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin target/release/reactord target/release/reactorctl

clean: ## Everything that was built
	cargo clean
