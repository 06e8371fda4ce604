"""What the website sells."""
