#!/usr/bin/env bash
# Checks a running server with the official openai Python client.
# Usage: run.sh BASE_URL MODEL [--api-key KEY]      for example: run.sh http://127.0.0.1:8000/v1 text2sql
# The virtual environment is made once, in the cache folder.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n 's/^openai==//p' "$here/requirements.txt")
environment="${CLLM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cllm}/venv-openai-$version"

# the mark is written last: an environment that was interrupted is made again
if [[ ! -e "$environment/complete" ]]; then
  python3 -m venv --clear "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  touch "$environment/complete"
fi

exec "$environment/bin/python" "$here/check_openai.py" "$@"
