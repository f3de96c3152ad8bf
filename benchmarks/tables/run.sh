#!/usr/bin/env bash
# Makes the table of a domain. Wants a quiet machine; a second start goes on where the first one stopped.
# Usage: run.sh DOMAIN (a declaration NAME.toml in this folder). CLLM_BENCH_BINARIES: where the release binaries are.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
binaries="${CLLM_BENCH_BINARIES:-$repository/target/release}"
declaration="$here/$1.toml"
shift

if grep -q 'examples/text2sql/data' "$declaration" && [[ ! -f "$repository/examples/text2sql/data/shop.sqlite" ]]; then
  "$binaries/text2sql-data" --output "$repository/examples/text2sql/data" >&2
fi
if grep -q 'examples/wikisql/prepared' "$declaration" && [[ ! -f "$repository/examples/wikisql/prepared/adapt.jsonl.gz" ]]; then
  python3 "$repository/examples/wikisql/prepare.py" >&2
fi
if grep -qF '$SMOLLM2' "$declaration"; then
  SMOLLM2=$(bash "$repository/tests/gguf/smollm2.sh")
  export SMOLLM2
fi
export PYTHONPATH="$repository/benchmarks" # for common/
exec python3 "$here/table.py" --declaration "$declaration" --trainer "$binaries/cllm-trainer" --store "$repository/.cllm/tables" \
  --output "$repository/docs/training-results" "$@"
