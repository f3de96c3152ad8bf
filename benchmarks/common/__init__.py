"""What the benchmarks share. Found where `benchmarks` is on the path: the scripts beside them say `PYTHONPATH=benchmarks`."""
