"""Where results are kept, and how."""
