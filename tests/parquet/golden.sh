#!/usr/bin/env bash
# Writes the Parquet files of the trainer's tests again, with the writer that most data sets are written with.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$(bash "$here/../python.sh" "$here" pyarrow)

exec "$python" "$here/make_golden.py" "$here/../../trainer/tests/trainer/golden"
