"""What the bytes mean: no socket, no clock, no process."""
