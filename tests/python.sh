#!/usr/bin/env bash
# Makes the virtual environment of a folder's requirements.txt once, in the cache folder, and prints its python.
# Usage: python.sh FOLDER PACKAGE, where PACKAGE, its version and the digest of FOLDER/requirements.txt name the environment.
set -euo pipefail

folder=$1 package=$2
version=$(sed -n "s/^$package==//p" "$folder/requirements.txt")
digest=$(sha256sum "$folder/requirements.txt" | head -c 8)
environment="${CLLM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cllm}/venv-$package-$version-$digest"

# the mark is written last: an environment that was interrupted is made again
if [[ ! -e "$environment/complete" ]]; then
  python3 -m venv --clear "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$folder/requirements.txt" >&2
  touch "$environment/complete"
fi
echo "$environment/bin/python"
