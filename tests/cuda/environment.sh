#!/usr/bin/env bash
# Runs a command in an environment in which cargo can compile the feature `cuda`: `environment.sh cargo build … --features cuda`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
toolkit=$(bash "$here/toolkit.sh")

export CUDA_HOME="$toolkit" CUDA_PATH="$toolkit" CUDA_ROOT="$toolkit" CUDA_TOOLKIT_ROOT_DIR="$toolkit"
export PATH="$toolkit/bin:$PATH"
export LIBRARY_PATH="$toolkit/lib:$toolkit/lib/stubs${LIBRARY_PATH:+:$LIBRARY_PATH}"
# Kernels for GPUs of this compute capability, which drivers translate for later ones: 80 is Ampere, the first with bf16.
export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-80}"
exec "$@"
