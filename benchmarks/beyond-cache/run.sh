#!/usr/bin/env bash
# `make beyond-cache`: target and CLLM of the quickstart as models of 190 MB, more than the last-level cache of most processors holds, and
# what Jacobi decoding gains there. Runs again from where it stopped. Wants a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${CLLM_BIN:-target/release}
example=examples/text2sql
trained=.cllm/text2sql

[ -n "$(bash examples/report.sh "$trained")" ] || CI=true CLLM_WORKDIR=$trained bash "$example/quickstart.sh" >&2
cllm=$(dirname "$(bash examples/report.sh "$trained")")
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
