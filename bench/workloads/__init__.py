"""The workloads of `make bench-full`: each a function that runs one system once and returns what it measured."""
