"""Celery's remote-control commands: a module for each family, a function with Celery's own name for each command."""
