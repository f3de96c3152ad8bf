#!/usr/bin/env bash
# Compiles and links everything that has the feature `cuda`, which needs neither a GPU nor a driver. About a quarter of an hour.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
# features change how dependencies are built: a folder of its own leaves the others' caches alone
exec bash "$here/environment.sh" cargo build --target-dir target/cuda -p cllm-server -p cllm-trainer -p cllm-cli --features cuda
