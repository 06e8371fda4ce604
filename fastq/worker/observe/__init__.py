"""What others may see of a worker: notes on the board, and a server for probes and metrics."""
