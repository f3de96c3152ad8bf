#!/usr/bin/env bash
# `make text2sql-target`: the target checkpoint of the quickstart, from nothing but the generated questions.
# Two cores need about twenty minutes. The result is the same on the same kind of machine; the committed one was made by this script.
set -euo pipefail
cd "$(dirname "$0")"
bin=${CLLM_BIN:-../../target/release}
work=${CLLM_WORKDIR:-../../.cllm/text2sql-target}

mkdir -p "$work"
[ -f data/shop.sqlite ] || "$bin/text2sql-data" --output data
"$bin/cllm-trainer" init --config=target.config.json --data=data/train.jsonl.gz --vocab-size=1024 --output="$work/init" --seed=1
"$bin/cllm-trainer" adapt --model="$work/init" --dataset=data/train.jsonl.gz --validation=data/dev.jsonl.gz \
  --output="$work/target" --state="$work/state" --steps=2000 --batch-size=32 --learning-rate=3e-3 --warmup-steps=100 --keep=Last \
  --seed=1 --dtype=bf16
rm -rf target
cp -r "$work/target" target
