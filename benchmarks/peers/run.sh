#!/usr/bin/env bash
# Our decoding against llama.cpp's, mistral.rs's and transformers' on SmolLM2 in three storages; writes docs/benchmarks. Wants a quiet
# machine. Arguments go to run.py, such as --rounds 3 --limit 2 --storages q4_1.
#
# CLLM_BENCH_CLLM: a checkpoint folder of a CLLM that answers the questions of examples/text2sql. CLLM_BENCH_BINARIES: where the release
# binaries are.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
export PYTHONPATH="$repository/benchmarks" # for common/
binaries="${CLLM_BENCH_BINARIES:-$repository/target/release}"
threads=2

llama=$(bash "$here/llama_cpp.sh")
smollm2=$(bash "$repository/tests/gguf/smollm2.sh")
# a peer that cannot be installed is reported as such
transformers=$(bash "$repository/tests/python.sh" "$repository/tests/transformers" transformers) || transformers=""
mistralrs=$(bash "$repository/tests/python.sh" "$here/mistralrs" mistralrs) || mistralrs=""

versions=$(sed -n 's/^version=/llama-cpp-python==/p' "$here/llama_cpp.sh" && grep -hE '^(mistralrs|transformers|torch)==' "$here/mistralrs/requirements.txt" "$repository/tests/transformers/requirements.txt")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$repository" && RAYON_NUM_THREADS=$threads cargo bench --quiet -p cllm-engine --bench candle) > "$scratch/candle.jsonl"

checkpoint=()
if [[ -n "${CLLM_BENCH_CLLM:-}" ]]; then
  "$binaries/text2sql-data" --output "$scratch/data" >&2
  checkpoint=(--checkpoint "$CLLM_BENCH_CLLM" --questions "$scratch/data/test.jsonl.gz")
fi

python3 "$here/run.py" --cllm "$binaries/cllm" --llama "$llama" --smollm2 "$smollm2" --transformers-python "$transformers" \
  --mistralrs-python "$mistralrs" --candle "$scratch/candle.jsonl" --versions "$versions" --output "$repository/docs/benchmarks" "${checkpoint[@]}" "$@"
