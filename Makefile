# The two main targets: `make demo` shows what lacuna does, `make test` checks that it does.

.PHONY: help demo test room bench check interop build clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
LACUNA := $(TARGET)/release/lacuna
# The environment variables that the build needs, written by scripts/bootstrap.sh.
ENV := . ./.tools/env &&

help:
	@echo "make demo      build, fetch small models and gold data, make training data, print the table"
	@echo "make test      build, fetch, run all tests, including those with the real models"
	@echo "make room ROOM=judge   after an edit: build the library and run the tests of one room of src/"
	@echo "make build     build the release binary, $(LACUNA)"
	@echo "make bench     run the benchmarks"
	@echo "make check     check formatting, lints, which room imports which, licences and advisories of dependencies"
	@echo "make interop   compare a trained model's logits with those of Hugging Face transformers (MODEL=folder)"
	@echo "make clean     remove build output; keep models, data and runs"

build:
	@scripts/bootstrap.sh
	@$(ENV) cargo build --release --locked

demo: build
	@$(LACUNA) fetch
	@$(LACUNA) demo

test:
	@scripts/bootstrap.sh --test
	$(ENV) cargo build --release --locked
	$(LACUNA) fetch
	$(ENV) export LACUNA_TEST_GGUF="$$($(LACUNA) fetch --where smollm2-135m-instruct)" \
	        LACUNA_TEST_ENCODER="$$($(LACUNA) fetch --where all-minilm-l6-v2)" \
	        LACUNA_TEST_GOLD="$$($(LACUNA) fetch --where movie-snippets)" && \
	    cargo test --doc --release --locked --workspace && \
	    cargo nextest run --release --locked --workspace
	$(ENV) scripts/test-vulkan.sh
	scripts/cuda-ptx.sh --check
	$(ENV) scripts/test-processors.sh
	$(ENV) cargo nextest run --release --locked -p lacuna-models -p lacuna-kernels -p lacuna-cuda --features lacuna-models/candle,lacuna-models/emulated

# One room after an edit: compiles lacuna's library alone, runs that room's tests.
room:
	@test -d "src/$(ROOM)" && test -n "$(ROOM)" || { echo "make room ROOM=NAME; the rooms are: $(notdir $(patsubst %/,%,$(wildcard src/*/)))"; exit 2; }
	@scripts/bootstrap.sh --test
	$(ENV) cargo nextest run --release --locked -p lacuna --lib -E 'test(/^$(ROOM)::/)'

bench:
	@scripts/bootstrap.sh
	$(ENV) cargo bench --locked --workspace

check:
	@scripts/bootstrap.sh
	$(ENV) cargo fmt --all --check
	$(ENV) cargo clippy --release --locked --workspace --all-targets -- -D warnings
	$(ENV) cargo clippy --release --locked -p lacuna-models -p lacuna-kernels -p lacuna-cuda --features lacuna-models/candle,lacuna-models/emulated --all-targets -- -D warnings
	$(ENV) cargo test --quiet --locked -p lacuna-arrows
	$(ENV) scripts/deny.sh

interop: build
	@LACUNA="$(LACUNA)" scripts/interop.sh $(MODEL)

clean:
	cargo clean
	rm -rf .tools
