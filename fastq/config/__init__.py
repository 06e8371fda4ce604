"""Settings: what there is, what was chosen, and where it came from."""
