#!/usr/bin/env bash
# What tests on clusters need, made where it is missing: Debian's packages, the programs of the cluster, our binaries and their images.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/cluster/packages.sh
bash tests/cluster/build.sh control-plane nodes storage helm definitions >/dev/null
cargo build --workspace --bins # the images take them as they are
cargo run --quiet -p xtask -- images --profile dev --output target/images/dev >/dev/null
