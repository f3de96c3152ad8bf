#!/usr/bin/env bash
# The slow tests on clusters with nodes, one after the other: each has a cluster of its own that it may break.
#
#   cluster.sh [FILTER...]      only the tests whose names contain one of these
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/prepare.sh
RUST_BACKTRACE=0 cargo test -p cllm-tests --test e2e -- --ignored --test-threads=1 "$@"
