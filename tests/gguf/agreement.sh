#!/usr/bin/env bash
# Holds our forward against llama.cpp's on SmolLM2, in three storages: the same most likely token after every token of natural text, and the
# same perplexity. Usage: agreement.sh [STORAGE...]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
peers="$repository/benchmarks/peers"
chunk=512 threads=2

llama=$(bash "$peers/llama_cpp.sh")
published=$(bash "$here/smollm2.sh")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

g++ -O2 -std=c++17 -I "$llama/../../include" "$here/teacher_forced.cpp" -o "$scratch/teacher_forced" \
  -L "$llama" -Wl,-rpath,"$llama" -lllama -lggml -lggml-base

# prose and tables that everyone who can run this has
(cd "$repository" && cat LICENSE README.md ARCHITECTURE.md CONTRIBUTING.md docs/*.md tests/README.md examples/*/README.md charts/*/README.md) \
  > "$scratch/text"

(($#)) || set -- q4_1 q8_0 f32
for storage in "$@"; do
  model=$published
  [[ $storage == q4_1 ]] || model=$(bash "$peers/requantize.sh" "$published" "$storage")
  for attention in f32 f16; do
    "$scratch/teacher_forced" "$model" "$scratch/text" $chunk $threads $attention > "$scratch/theirs-$attention"
  done
  (cd "$repository" && CLLM_MODEL=$model CLLM_TEXT=$scratch/text CLLM_CHUNK=$chunk CLLM_OUTPUT=$scratch/ours \
    cargo test --quiet -p cllm-engine --test engine -- --ignored --exact teacher_forced::teacher_forced) > "$scratch/log" 2>&1 \
    || { cat "$scratch/log" >&2; exit 1; }
  python3 "$here/agreement.py" "$storage" "$scratch/ours" "$scratch/theirs-f32" "$scratch/theirs-f16"
done
