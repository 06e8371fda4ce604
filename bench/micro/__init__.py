"""Single parts of the hot path, each by itself, with pytest-benchmark: `make bench-micro`."""
