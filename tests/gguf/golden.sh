#!/usr/bin/env bash
# Writes the golden files of the GGUF tests again, with the reference package.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$(bash "$here/../python.sh" "$here" gguf)

exec "$python" "$here/make_golden.py" "$here/../../engine/tests/engine/golden/gguf"
