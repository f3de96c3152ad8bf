#!/usr/bin/env bash
# Builds llama.cpp from the sources that the pip package llama-cpp-python carries, for this processor, once into the cache folder.
# Prints the folder of the programs and libraries; the headers are in `include` beside its parent.
set -euo pipefail

version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
cache="${CLLM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cllm}/llama-cpp-$version"

# the mark is written last: what was interrupted is made again
if [[ ! -e "$cache/complete" || ! -e "$cache/include/llama.h" ]]; then
  rm -rf "$cache"
  mkdir -p "$cache/source" "$cache/include"
  {
    # pip asks the package for its name, which needs its build tool
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check scikit-build-core==1.1.2
    "$cache/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: --no-build-isolation \
      --dest "$cache" "llama-cpp-python==$version"
    echo "$sha256  $cache/llama_cpp_python-$version.tar.gz" | sha256sum --check --quiet
    tar --extract --gzip --strip-components 1 --directory "$cache/source" --file "$cache/llama_cpp_python-$version.tar.gz"
    llama="$cache/source/vendor/llama.cpp"
    cmake -S "$llama" -B "$cache/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
      -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_USE_PREBUILT_UI=OFF
    cmake --build "$cache/build" --parallel "${JOBS:-2}" \
      --target llama-server llama-bench llama-batched-bench llama-quantize llama-lookahead
    cp "$llama"/include/*.h "$llama"/ggml/include/*.h "$cache/include"
    rm -r "$cache/venv" "$cache/source" "$cache/llama_cpp_python-$version.tar.gz"
  } >&2
  touch "$cache/complete"
fi
echo "$cache/build/bin"
