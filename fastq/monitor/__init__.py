"""Read what workers are doing from their shared memory: without asking them, and whether or not they could answer."""
