#!/usr/bin/env bash
# Runs a study and writes its page and plots. Wants a quiet machine; a second start goes on where the first one stopped.
# Usage: run.sh DECLARATION STORE OUTPUT [ARGUMENTS of study.py, such as --axes weight,method]. CLLM_BENCH_BINARIES: where the release binaries are.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
binaries="${CLLM_BENCH_BINARIES:-$repository/target/release}"
data="$repository/examples/text2sql/data"
declaration=$1 store=$2 output=$3
shift 3

[[ -f "$data/shop.sqlite" ]] || "$binaries/text2sql-data" --output "$data" >&2
export PYTHONPATH="$repository/benchmarks" # for common/
exec python3 "$here/study.py" --declaration "$here/$declaration" --trainer "$binaries/cllm-trainer" --store "$repository/$store" \
  --output "$repository/$output" "$@"
