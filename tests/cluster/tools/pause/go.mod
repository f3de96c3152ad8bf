// The sandbox image of the test nodes, built by ../../build.sh.
module cllm.dev/tests/cluster/pause

go 1.26.0
