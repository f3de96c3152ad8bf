#!/usr/bin/env bash
# `make smollm2-wikisql`: SmolLM2-135M-Instruct, taught WikiSQL and trained to decode by Jacobi iteration, by adapters. Takes hours on two cores,
# and runs again from where it stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."
example=examples/smollm2
bin=${CLLM_BIN:-target/release}
workdir=${CLLM_WORKDIR:-.cllm/smollm2}

model=$(bash tests/gguf/smollm2.sh)
"$bin/cllm" up "$example/smollm2.yaml" --workdir "$workdir" --claim "smollm2=$(dirname "$model")" --exit-when-ready
echo "report: $(bash examples/report.sh "$workdir")"
