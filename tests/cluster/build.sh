#!/usr/bin/env bash
# Builds the programs of the test cluster from their published Go modules, once for each set of
# versions, into a cache folder. Prints that folder: its only line on stdout.
#
#   bin=$(tests/cluster/build.sh)      CLLM_CACHE_DIR moves the cache (default: ~/.cache/cllm)
set -euo pipefail

tools="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/tools"
say() { printf 'build.sh: %s\n' "$*" >&2; }

# version FOLDER MODULE: the version of MODULE that tools/FOLDER/go.mod asks for. Read with sed, so
# that a machine with a filled cache needs no Go.
version() {
  sed -nE "s|^(require)?[[:space:]]*$2 (v[^[:space:]]+).*|\2|p" "$tools/$1/go.mod"
}
kubernetes=$(version kubernetes k8s.io/kubernetes)
etcd=$(version etcd go.etcd.io/etcd/server/v3)

cache="${CLLM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cllm}/cluster"
bin="$cache/kubernetes-$kubernetes-etcd-$etcd-$(uname -m)/bin"

# Without these the API server and kubectl call themselves v0.0.0.
stamp=k8s.io/component-base/version
IFS=. read -r major minor _ <<<"${kubernetes#v}"
kubernetes_flags="-X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor"

# build FOLDER PROGRAM PACKAGE [LINKER FLAGS]: leaves bin/PROGRAM, unless it is there. The program
# gets its name only when it is complete, so an interrupted build is never taken for a finished one.
build() {
  local folder=$1 program=$2 package=$3 flags=${4:-}
  [[ -x $bin/$program ]] && return
  command -v go >/dev/null || { say "Go is needed to build $program, and 'go' is not in PATH."; exit 1; }
  say "building $program (all of them: about ten minutes on two cores, once) ..."
  (cd "$tools/$folder" && CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off \
    nice -n 5 go build -trimpath -ldflags "-s -w $flags" -o "$bin/.$program.partial" "$package") >&2
  mv "$bin/.$program.partial" "$bin/$program"
}

command -v flock >/dev/null || { say "flock (of util-linux) is needed, and is not in PATH."; exit 1; }
mkdir -p "$bin"
bin=$(cd "$bin" && pwd) # callers run the programs from other folders
exec 9>"$bin/.lock" # held until this script ends, so that two callers do not build twice
flock --nonblock 9 || { say "waiting for another build into the same folder ..."; flock 9; }

build etcd etcd go.etcd.io/etcd/server/v3
for program in kubectl kube-apiserver kube-controller-manager; do
  build kubernetes "$program" "k8s.io/kubernetes/cmd/$program" "$kubernetes_flags"
done
echo "$bin"
