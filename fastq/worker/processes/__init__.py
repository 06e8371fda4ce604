"""The processes around the engine: nursery, children, and the operating system's signals."""
