#!/usr/bin/env bash
# Holds a checkpoint that we wrote against transformers: the same greedy tokens.
# Usage: run.sh CHECKPOINT PROMPTS(.jsonl.gz) COUNT. The virtual environment (5.6 GB) is made once, in the cache folder.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
python=$(bash "$here/../python.sh" "$here" transformers)

HF_HUB_OFFLINE=1 exec "$python" "$here/check_greedy.py" "$repository/target/release/cllm" "$@"
