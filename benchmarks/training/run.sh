#!/usr/bin/env bash
# Our training against the same training in eager PyTorch, at two sizes; writes docs/benchmarks. Wants a quiet machine. Arguments go to
# run.py, such as --rounds 1 --passes 1 --sizes small. CLLM_BENCH_BINARIES: where the release binaries are.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
export PYTHONPATH="$repository/benchmarks" # for common/
binaries="${CLLM_BENCH_BINARIES:-$repository/target/release}"
data="$repository/examples/text2sql/data"

python=$(bash "$repository/tests/python.sh" "$repository/tests/transformers" transformers)
[[ -f "$data/shop.sqlite" ]] || "$binaries/text2sql-data" --output "$data" >&2

exec python3 "$here/run.py" --trainer "$binaries/cllm-trainer" --torch-python "$python" --data "$data/train.jsonl.gz" \
  --versions "$(grep '^torch==' "$repository/tests/transformers/requirements.txt")" --output "$repository/docs/benchmarks" "$@"
