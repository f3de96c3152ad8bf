#!/usr/bin/env bash
# `make test` after lint: all tests of the workspace, on the real control plane and with the real OpenAI client.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/cluster/build.sh >/dev/null
cargo test --workspace --no-fail-fast
