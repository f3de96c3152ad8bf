#!/usr/bin/env bash
# `make test` after lint: all tests of the workspace, the resources on a real control plane.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/cluster/packages.sh
bash tests/cluster/build.sh control-plane nodes helm >/dev/null
cargo test --workspace --no-fail-fast
