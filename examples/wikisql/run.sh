#!/usr/bin/env bash
# `make wikisql`: a new model, taught WikiSQL, trained to decode by Jacobi iteration and measured. Runs again from where it stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."
example=examples/wikisql
bin=${CLLM_BIN:-target/release}
workdir=${CLLM_WORKDIR:-.cllm/wikisql}

[ -f "$example/prepared/adapt.jsonl.gz" ] || python3 "$example/prepare.py"
[ -d "$example/target-init" ] || "$bin/cllm-trainer" init --config="$example/target.config.json" \
  --data="$example/prepared/adapt.jsonl.gz" --vocab-size=2048 --words=Alone --output="$example/target-init" --seed=1
"$bin/cllm" up "$example/wikisql.yaml" --workdir "$workdir" --exit-when-ready
echo "report: $(bash examples/report.sh "$workdir")"
