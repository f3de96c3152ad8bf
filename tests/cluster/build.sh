#!/usr/bin/env bash
# Builds the programs of the test cluster from their published Go modules, once for each version,
# into a cache folder. Prints the folder in which they lie together: its only line on stdout.
#
#   bin=$(tests/cluster/build.sh [GROUP...])     CLLM_CACHE_DIR moves the cache (default: ~/.cache/cllm)
#
#   control-plane   etcd, kube-apiserver, kube-controller-manager, kubectl     (built when no group is named)
#   nodes           kube-scheduler, kubelet, kube-proxy, containerd, the pod network, DNS
#   storage         an S3 server and a registry, which the tests of model sources talk to
#   helm            helm
#   definitions     servicemonitors.yaml, the CRD that the chart's ServiceMonitor needs
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
containerd=$(version containerd github.com/containerd/containerd/v2)
cni=$(version cni github.com/containernetworking/plugins)
coredns=$(version coredns github.com/coredns/coredns)
helm=$(version helm helm.sh/helm/v3)
versitygw=$(version s3 github.com/versity/versitygw)
registry=$(version registry github.com/distribution/distribution/v3)
prometheus=$(version prometheus github.com/prometheus-operator/prometheus-operator)

cache="${CLLM_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/cllm}/cluster"
store="$cache/$(uname -m)"
versions=$(printf '%s ' "$kubernetes" "$etcd" "$containerd" "$cni" "$coredns" "$helm" "$versitygw" "$registry" "$prometheus" | sha256sum | head -c 12)
bin="$store/bin-$versions"

# Without these the programs call themselves v0.0.0, and helm takes the cluster of `helm template` for an old one.
stamp=k8s.io/component-base/version
IFS=. read -r major minor _ <<<"${kubernetes#v}"
kubernetes_flags="-X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor"
kubernetes_of_helm="helm.sh/helm/v3/pkg/chartutil.k8sVersion"
helm_flags="-X helm.sh/helm/v3/internal/version.version=$helm -X ${kubernetes_of_helm}Major=$major -X ${kubernetes_of_helm}Minor=$minor"
containerd_flags="-X github.com/containerd/containerd/v2/version.Version=$containerd"

# build FOLDER VERSION PROGRAM PACKAGE [LINKER FLAGS]: leaves bin/PROGRAM, a link into the store, unless it is
# there. A program gets its name only when it is complete, so an interrupted build is never taken for a finished one.
build() {
  local folder=$1 version=$2 program=$3 package=$4 flags=${5:-}
  [[ -x $bin/$program ]] && return
  local built="$store/$program-$version"
  if [[ ! -x $built ]]; then
    command -v go >/dev/null || { say "Go is needed to build $program, and 'go' is not in PATH."; exit 1; }
    say "building $program $version (all of them: about twenty minutes on two cores, once) ..."
    (cd "$tools/$folder" && CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off \
      nice -n 5 go build -trimpath -ldflags "-s -w $flags" -o "$built.partial" "$package") >&2
    mv "$built.partial" "$built"
  fi
  ln -sfn "../$program-$version" "$bin/$program"
}

build_kubernetes() { for program in "$@"; do build kubernetes "$kubernetes" "$program" "k8s.io/kubernetes/cmd/$program" "$kubernetes_flags"; done; }

build_containerd() {
  for program in "$@"; do
    build containerd "$containerd" "$program" "github.com/containerd/containerd/v2/cmd/$program" "$containerd_flags"
  done
}

build_cni() {
  for package in "$@"; do build cni "$cni" "${package##*/}" "github.com/containernetworking/plugins/plugins/$package"; done
}

# The sandbox image: one static program, in an archive as `ctr images import` reads it.
build_pause() {
  local version=1 architecture folder layer config
  build pause "$version" pause .
  [[ -e $bin/pause.tar ]] && return
  case $(uname -m) in x86_64) architecture=amd64 ;; aarch64) architecture=arm64 ;; *) architecture=$(uname -m) ;; esac
  folder=$(mktemp -d "$bin/.pause.XXXXXX")
  cp -L "$bin/pause" "$folder/pause"
  tar -C "$folder" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$folder/layer.tar" pause
  layer=$(sha256sum "$folder/layer.tar" | head -c 64)
  config="{\"architecture\":\"$architecture\",\"os\":\"linux\",\"config\":{\"User\":\"65535:65535\",\"Entrypoint\":[\"/pause\"]}"
  echo "$config,\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$layer\"]}}" >"$folder/config.json"
  echo "[{\"Config\":\"config.json\",\"RepoTags\":[\"cllm.test/pause:$version\"],\"Layers\":[\"layer.tar\"]}]" >"$folder/manifest.json"
  tar -C "$folder" -cf "$bin/pause.tar.partial" manifest.json config.json layer.tar
  mv "$bin/pause.tar.partial" "$bin/pause.tar"
  rm -r "$folder"
}

# The definition as its module publishes it, copied out of Go's module cache, which checks it against go.sum.
build_service_monitors() {
  local module=github.com/prometheus-operator/prometheus-operator built="$store/servicemonitors-$prometheus.yaml" folder
  if [[ ! -e $built ]]; then
    command -v go >/dev/null || { say "Go is needed to download $module, and 'go' is not in PATH."; exit 1; }
    say "downloading $module $prometheus (5 MB, once) ..."
    folder=$(cd "$tools/prometheus" && export GOWORK=off && go mod download "$module" >&2 && go list -m -f '{{.Dir}}' "$module")
    install -m 644 "$folder/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml" "$built.partial"
    mv "$built.partial" "$built"
  fi
  ln -sfn "../${built##*/}" "$bin/servicemonitors.yaml"
}

build_group() {
  case $1 in
    control-plane)
      build etcd "$etcd" etcd go.etcd.io/etcd/server/v3
      build_kubernetes kubectl kube-apiserver kube-controller-manager ;;
    nodes)
      build_kubernetes kube-scheduler kubelet kube-proxy
      build_containerd containerd containerd-shim-runc-v2 ctr
      build_cni main/bridge main/loopback ipam/host-local meta/portmap
      build_pause
      build coredns "$coredns" coredns . ;;
    storage)
      build s3 "$versitygw" versitygw github.com/versity/versitygw/cmd/versitygw
      build registry "$registry" registry github.com/distribution/distribution/v3/cmd/registry ;;
    helm) build helm "$helm" helm helm.sh/helm/v3/cmd/helm "$helm_flags" ;;
    definitions) build_service_monitors ;;
    *) say "there is no group '$1': control-plane, nodes, storage, helm and definitions are."; exit 2 ;;
  esac
}

command -v flock >/dev/null || { say "flock (of util-linux) is needed, and is not in PATH."; exit 1; }
mkdir -p "$bin"
bin=$(cd "$bin" && pwd) # callers run the programs from other folders
exec 9>"$bin/.lock" # held until this script ends, so that two callers do not build twice
flock --nonblock 9 || { say "waiting for another build into the same folder ..."; flock 9; }

for group in "${@:-control-plane}"; do build_group "$group"; done
echo "$bin"
