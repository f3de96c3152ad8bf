#!/usr/bin/env bash
# Installs NVIDIA's compiler, headers and libraries from their pip packages once into the cache folder, ready to compile and link the
# feature `cuda` on a machine without a GPU or a driver. Prints the folder, which is what CUDA_HOME wants.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=13.0
cache="${CLLM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cllm}/cuda-$version"
toolkit="$cache/nvidia/cu13"

# the mark is written last: what was interrupted is made again
if [[ ! -e "$cache/complete" ]]; then
  rm -rf "$cache"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --only-binary :all: --require-hashes \
    --requirement "$here/toolkit.txt" --target "$cache" >&2
  # the linker looks for names without a version, build scripts in lib64 too
  for library in "$toolkit"/lib/lib*.so.*; do
    name=$(basename "$library")
    ln -s "$name" "$toolkit/lib/${name%%.so.*}.so"
  done
  ln -s lib "$toolkit/lib64"
  # the driver belongs to the machine that runs the program; to link, every name in its header is enough
  mkdir "$toolkit/lib/stubs"
  grep --only-matching --extended-regexp --word-regexp 'cu[A-Z][A-Za-z0-9_]*' "$toolkit/include/cuda.h" | sort --unique \
    | sed 's/.*/void &(void) {}/' | cc -shared -x c - -Wl,-soname,libcuda.so.1 -o "$toolkit/lib/stubs/libcuda.so"
  touch "$cache/complete"
fi
echo "$toolkit"
