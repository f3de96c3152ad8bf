#!/usr/bin/env bash
# The network and the control groups of one test cluster: a bridge that has an address of this machine, and for
# each node a network namespace on it. There is no way from them to the world outside.
#
#   network.sh up ID NODES      removes what an earlier cluster of that ID left, then makes all
#   network.sh down ID          removes all
#
# 10.77.ID.1 is this machine, 10.77.ID.(10+N) node N, 10.78.ID.(64*N)/26 the Pods of node N.
set -euo pipefail
command=$1 id=$2
bridge=cllm-$id

down() {
  local namespace link group
  for namespace in $(ip netns list | cut -d ' ' -f 1 | grep -E "^cllm-$id-[0-9]+$" || true); do ip netns delete "$namespace"; done
  # By name: a namespace, and the links with it, lives on until the last process in it has ended.
  for link in $(ip -brief link | grep -oE "^cllm-$id(-[0-9]+)?\b" || true); do ip link delete "$link"; done
  # Innermost first: a group can be removed when it has no group below it. The kernel may still be ending what was in one.
  for _ in {1..25}; do
    find /sys/fs/cgroup -depth -type d -path "*/cllm-$id-*" -exec rmdir {} + 2>/dev/null || true
    group=$(find /sys/fs/cgroup -maxdepth 2 -type d -name "cllm-$id-*" -print -quit)
    [[ -z $group ]] && return
    sleep 0.2
  done
  echo "network.sh: $group is not empty and stays" >&2
}

node() {
  local namespace=cllm-$id-$1 hierarchy
  ip netns add "$namespace"
  ip link add "$namespace" type veth peer name eth0 netns "$namespace"
  ip link set "$namespace" master "$bridge" up
  ip -n "$namespace" link set lo up
  ip -n "$namespace" address add "10.77.$id.$((10 + $1))/24" dev eth0
  ip -n "$namespace" link set eth0 up
  ip -n "$namespace" route add 10.96.0.0/16 dev eth0 # Services: kube-proxy changes the destination before anything is sent
  ip netns exec "$namespace" sysctl -q -w net.ipv4.ip_forward=1
  # Each hierarchy, with version 1 of control groups; the only one with version 2.
  for hierarchy in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
    [[ ! -e $hierarchy ]] || mkdir -p "${hierarchy%/*}/$namespace"
  done
}

# routes NAMESPACE-OPTION...: the Pods of each node are reached through that node.
routes() {
  local to
  for ((to = 0; to < nodes; to++)); do
    [[ "$*" == "-n cllm-$id-$to" ]] || ip "$@" route add "10.78.$id.$((64 * to))/26" via "10.77.$id.$((10 + to))"
  done
}

up() {
  local number
  down
  ip link add "$bridge" type bridge
  ip address add "10.77.$id.1/24" dev "$bridge"
  ip link set "$bridge" up
  for ((number = 0; number < nodes; number++)); do node "$number"; done
  routes
  for ((number = 0; number < nodes; number++)); do routes -n "cllm-$id-$number"; done
}

case $command in
  up) nodes=$3 && up ;;
  down) down ;;
  *) echo "network.sh: '$command' is neither up nor down" >&2 && exit 2 ;;
esac
