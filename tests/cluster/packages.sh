#!/usr/bin/env bash
# Installs what the test nodes take from Debian, where it is missing: runc, and iptables for kube-proxy.
set -euo pipefail
missing=()
command -v runc >/dev/null || missing+=(runc)
command -v iptables >/dev/null || missing+=(iptables)
command -v ip >/dev/null || missing+=(iproute2)
[[ ${#missing[@]} -eq 0 ]] && exit
apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
