#!/usr/bin/env bash
# `make beyond-cache`: a CLLM with 190 MB of weights, more than the last-level cache of most processors holds, and what it gains from
# Jacobi decoding. Runs again from where it stopped. Wants a quiet machine for the last step.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${CLLM_BIN:-target/release}
work=${CLLM_WORKDIR:-.cllm/beyond-cache}
data=examples/text2sql/data

mkdir -p "$work"
[ -f "$data/shop.sqlite" ] || "$bin/text2sql-data" --output "$data"

# Every round learns from the states that the result of the one before still goes through. The weights of the cross-entropy are small: the
# answers may become worse, the speed is what is looked at.
collect() {
  "$bin/cllm-trainer" collect --model="$1" --dataset="$data/train.jsonl.gz" --output="$2" \
    --block-size=16 --max-new-tokens=128 --max-examples="$3" --seed="$4"
}
train() {
  "$bin/cllm-trainer" train --model="$1" --trajectories="$2" --output="$3" --state="$3-state" --steps="$4" --batch-size="$5" \
    --learning-rate="$6" --warmup-steps=20 --autoregressive-weight="$7" --checkpoint-every-steps=50 --seed="$8"
}
collect examples/text2sql/target "$work/trajectories-1" 4000 1
train examples/text2sql/target "$work/trajectories-1" "$work/round-1" 800 16 1e-3 4 1
collect "$work/round-1" "$work/trajectories-2" 4000 2
train "$work/round-1" "$work/trajectories-2" "$work/round-2" 800 16 1e-3 1 2
collect "$work/round-2" "$work/trajectories-3" 4000 3
train "$work/round-2" "$work/trajectories-3" "$work/round-3" 800 16 1e-3 0.5 3
[ -f "$work/wide/config.json" ] || python3 benchmarks/beyond-cache/widen.py "$work/round-3" "$work/wide" 4
collect "$work/wide" "$work/trajectories-4" 1000 4
train "$work/wide" "$work/trajectories-4" "$work/cllm" 100 8 5e-4 0.5 4

"$bin/cllm" bench --model "$work/cllm" --prompts "$data/test.jsonl.gz" --limit 100 --report "$work/bench.json"
