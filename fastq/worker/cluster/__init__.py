"""What workers of one broker know of each other: leases, and what a dead one has left."""
