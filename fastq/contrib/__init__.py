"""What joins native applications with frameworks. Nothing here is imported unless it is asked for."""
