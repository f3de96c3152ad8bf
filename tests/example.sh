#!/usr/bin/env bash
# The full example on a cluster: images of binaries that were built for speed, its gates as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/prepare.sh
cargo run --quiet -p xtask -- images
CLLM_IMAGES=$PWD/target/images cargo test -p cllm-tests --test smoke -- --ignored --nocapture
