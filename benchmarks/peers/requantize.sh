#!/usr/bin/env bash
# Writes a GGUF file in another storage by llama.cpp, once into the cache folder, and prints its path. Usage: requantize.sh FILE STORAGE
# (f32, q8_0, q4_1). What was rounded stays rounded: from a Q4_1 file, f32 is its values and q8_0 is rounded once more.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$1 storage=$2
digest=$(sha256sum "$source" | head -c 16)
folder="${CLLM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cllm}/requantized-$digest"
name=$(basename "$source" .gguf)
file="$folder/${name%.[QFqf][0-9]*}.${storage^^}.gguf"

# moved into place last: a file that was interrupted is made again
if [[ ! -e "$file" ]]; then
  mkdir -p "$folder"
  llama=$(bash "$here/llama_cpp.sh")
  "$llama/llama-quantize" --allow-requantize "$source" "$file.partial" "${storage^^}" 2 >&2
  mv "$file.partial" "$file"
fi
echo "$file"
