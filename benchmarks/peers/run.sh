#!/usr/bin/env bash
# Our decoding against llama.cpp's on SmolLM2; writes docs/benchmarks. Wants a quiet machine. Usage: run.sh [ROUNDS]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
llama=$(bash "$here/llama_cpp.sh")
model=$(bash "$repository/tests/gguf/smollm2.sh")

exec python3 "$here/run.py" "$repository/target/release/cllm" "$llama" "$model" "$here/prompts.jsonl" "$repository/docs/benchmarks" "${1:-7}"
