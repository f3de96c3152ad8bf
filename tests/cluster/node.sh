#!/usr/bin/env bash
# One node of the test cluster: containerd, kubelet and kube-proxy in namespaces of their own (network, mounts,
# processes). It is process 1 of its own, so when it ends, everything on the node ends with it.
#
#   node.sh NODE_FOLDER PROGRAMS NODE_NAME NODE_ADDRESS IMAGE...
#
# NODE_FOLDER/config has the configuration; logs go to NODE_FOLDER/*.log.
set -euo pipefail
folder=$1 programs=$2 name=$3 address=$4
shift 4
config=$folder/config

# What the programs write to the usual places is the node's own, and gone with it.
mount --make-rslave /
for place in /run /var/lib/containerd /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers; do
  mkdir -p "$folder/root$place" "$place"
  mount --bind "$folder/root$place" "$place"
done
mount --make-rshared / # kubelet hands mounts on to containers
export PATH="$programs:$PATH" HOME="$folder" # containerd looks for its shim in PATH

containerd --config "$config/containerd.toml" >"$folder/containerd.log" 2>&1 &
ctr() { command ctr --connect-timeout 30s -n k8s.io "$@"; }
for ((try = 0; try < 150; try++)); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done
for image in "$@"; do ctr images import --local "$image" >>"$folder/images.log" 2>&1; done

kubelet --config="$config/kubelet.yaml" --kubeconfig="$config/kubelet.kubeconfig" --hostname-override="$name" \
  --node-ip="$address" --root-dir=/var/lib/kubelet --cert-dir="$folder/kubelet-pki" >"$folder/kubelet.log" 2>&1 &
kube-proxy --config="$config/kube-proxy.yaml" >"$folder/kube-proxy.log" 2>&1 &
wait -n # the first program that ends takes the node down: a test that did not ask for that shall see it
