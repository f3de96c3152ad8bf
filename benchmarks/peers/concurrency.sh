#!/usr/bin/env bash
# cllm-server against llama-server with 1 to 16 concurrent requests on SmolLM2; writes docs/benchmarks. Wants a quiet machine. Arguments
# go to concurrency.py, such as --rounds 3. CLLM_BENCH_BINARIES: where the release binaries are.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
export PYTHONPATH="$repository/benchmarks" # for common/
llama=$(bash "$here/llama_cpp.sh")
smollm2=$(bash "$repository/tests/gguf/smollm2.sh")

exec python3 "$here/concurrency.py" --server "${CLLM_BENCH_BINARIES:-$repository/target/release}/cllm-server" --llama "$llama" --model "$smollm2" \
  --prompts "$here/prompts.jsonl" --output "$repository/docs/benchmarks" "$@"
