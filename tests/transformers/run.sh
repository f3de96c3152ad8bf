#!/usr/bin/env bash
# Holds a checkpoint that we wrote against transformers: the same greedy tokens.
# Usage: run.sh CHECKPOINT PROMPTS(.jsonl.gz) COUNT. The virtual environment (5.6 GB) is made once, in the cache folder.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
version=$(sed -n 's/^transformers==//p' "$here/requirements.txt")
environment="${CLLM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cllm}/venv-transformers-$version"

# the mark is written last: an environment that was interrupted is made again
if [[ ! -e "$environment/complete" ]]; then
  python3 -m venv --clear "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  touch "$environment/complete"
fi

HF_HUB_OFFLINE=1 exec "$environment/bin/python" "$here/check_greedy.py" "$repository/target/release/cllm" "$@"
