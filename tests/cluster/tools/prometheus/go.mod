// Where the definition of the ServiceMonitor is taken from by ../../build.sh: nothing of it is built.
module cllm.dev/tests/cluster/prometheus

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.94.1
