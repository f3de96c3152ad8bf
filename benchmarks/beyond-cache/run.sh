#!/usr/bin/env bash
# `make beyond-cache`: target and CLLM of the quickstart as models of 190 MB, more than the last-level cache of most processors holds, and
# what Jacobi decoding gains there. Runs again from where it stopped. Wants a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${CLLM_BIN:-target/release}
example=examples/text2sql
models=.cllm/text2sql/claims/models

newest() { find "$models" -name report.json -printf '%T@ %h\n' 2>/dev/null | sort -n | tail -n 1 | cut -d ' ' -f 2-; }
[ -n "$(newest)" ] || CI=true bash "$example/quickstart.sh" >&2
cllm=$(newest)
work=${CLLM_WORKDIR:-.cllm/beyond-cache}/$(basename "$cllm")

widen() {
  [ -f "$2/config.json" ] || python3 benchmarks/beyond-cache/widen.py "$1" "$2" 4
}
mkdir -p "$work"
widen "$example/target" "$work/target"
widen "$cllm" "$work/cllm"
"$bin/cllm-trainer" evaluate --target="$work/target" --model="$work/cllm" --dataset="$example/data/test.jsonl.gz" \
  --metric=SqlExecution --database="$example/data/shop.sqlite" --prompts=500 --block-size=16 --max-new-tokens=128 --output="$work/report"
find "$work/report" -name 'report.*'
