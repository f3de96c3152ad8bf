#!/usr/bin/env bash
# `make test` after lint: all tests of the workspace; the resources on a real control plane, and once on a real node.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/cluster/packages.sh
bash tests/cluster/build.sh control-plane nodes storage helm >/dev/null
cargo build --workspace --bins                                    # the images take them as they are
cargo run --quiet -p xtask -- images --profile dev --output target/images/dev >/dev/null
cargo test --workspace --no-fail-fast
