"""A module without an application."""
