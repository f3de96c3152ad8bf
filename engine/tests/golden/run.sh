#!/usr/bin/env bash
# Makes the golden models and logits of engine/tests/golden/models again, with the environment of tests/transformers.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tests=$(cd "$here/../../../tests" && pwd)
python=$(bash "$tests/python.sh" "$tests/transformers" transformers)

# one thread: sums in one order
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 exec "$python" "$here/make_golden.py" "$here/models"
