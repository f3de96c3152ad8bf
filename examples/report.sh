#!/usr/bin/env bash
# The newest report of the models in a folder of `cllm up`; nothing if there is none. Usage: report.sh WORKDIR
set -euo pipefail
models="$1/claims/models"
[ -d "$models" ] || exit 0
find "$models" -name report.json -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-
