#!/usr/bin/env bash
# `make quickstart`: train, measure, serve, ask. Runs again from where it stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."
example=examples/text2sql
bin=${CLLM_BIN:-target/release}
workdir=${CLLM_WORKDIR:-.cllm/text2sql}
port=${CLLM_PORT:-8000}

[ -f "$example/data/shop.sqlite" ] || "$bin/text2sql-data" --output "$example/data"

# Trains and measures; a second start finds everything done and serves at once.
"$bin/cllm" up "$example/text2sql.yaml" --workdir "$workdir" --http-port "$port" --exit-when-ready

"$bin/cllm" up "$example/text2sql.yaml" --workdir "$workdir" --http-port "$port" --output json >"$workdir/serving.jsonl" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT

"$bin/text2sql-ask" --url "http://127.0.0.1:$port/v1" --database "$example/data/shop.sqlite" \
  --dataset "$example/data/test.jsonl.gz" --questions 3 --wait-seconds 60
echo "report: $(bash examples/report.sh "$workdir")"

if [ "${CI:-}" != true ]; then
  echo "serving on http://127.0.0.1:$port/v1 until Ctrl-C"
  wait "$server"
fi
