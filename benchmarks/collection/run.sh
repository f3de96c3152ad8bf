#!/usr/bin/env bash
# Collection of trajectories by many texts at a time, by one at a time and as the CLLM reference does it; writes docs/benchmarks. Wants a
# quiet machine. Arguments go to run.py, such as --rounds 1 --prompts 50. CLLM_BENCH_BINARIES: where the release binaries are.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
binaries="${CLLM_BENCH_BINARIES:-$repository/target/release}"
example="$repository/examples/text2sql"
export PYTHONPATH="$repository/benchmarks" # for common/

[[ -f "$example/data/shop.sqlite" ]] || "$binaries/text2sql-data" --output "$example/data" >&2

exec python3 "$here/run.py" --trainer "$binaries/cllm-trainer" --reference "$binaries/examples/collect_without_cache" \
  --model "$example/target" --data "$example/data/train.jsonl.gz" --output "$repository/docs/benchmarks" "$@"
