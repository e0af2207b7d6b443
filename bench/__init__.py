"""The measurements: the receiver beside something to compare it with, in one run. docs/benchmarks.md explains them."""
