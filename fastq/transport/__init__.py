"""Reach brokers: addresses, connections, keys, claims. Knows nothing of tasks."""
