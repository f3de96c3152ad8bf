#!/usr/bin/env bash
# `make e2e` after `make quickstart`: outside judges on what the quickstart made.
set -euo pipefail
cd "$(dirname "$0")/.."
example=examples/text2sql
checkpoint=$(dirname "$(bash examples/report.sh .cllm/text2sql)")

bash tests/transformers/run.sh "$checkpoint" "$example/data/test.jsonl.gz" 50

port=18743
target/release/cllm-server --model="$checkpoint" --served-name=text2sql --http-port=$port --metrics-port=$((port + 1)) &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
for _ in $(seq 100); do
  python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/readyz')" 2>/dev/null && break
  sleep 0.1
done
bash tests/openai/run.sh "http://127.0.0.1:$port/v1" text2sql
