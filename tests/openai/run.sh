#!/usr/bin/env bash
# Checks a running server with the official openai Python client.
# Usage: run.sh BASE_URL MODEL [--api-key KEY]      for example: run.sh http://127.0.0.1:8000/v1 text2sql
# The virtual environment is made once, in the cache folder.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$(bash "$here/../python.sh" "$here" openai)

exec "$python" "$here/check_openai.py" "$@"
