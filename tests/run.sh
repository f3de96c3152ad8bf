#!/usr/bin/env bash
# `make test` after lint: all tests of the workspace; the resources on a real control plane, and once on a real node.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/prepare.sh
for folder in collection common peers study tables training; do
  PYTHONPATH=benchmarks python3 -m unittest discover -s "benchmarks/$folder"
done
python3 -m unittest discover -s examples/wikisql
cargo test --workspace --no-fail-fast
