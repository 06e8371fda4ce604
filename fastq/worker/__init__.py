"""The engine: moves messages between broker and children, and never runs a task."""
