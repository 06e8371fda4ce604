"""Celery's own integration tests against a worker in a process of its own: `python -m tests.celery_suite --help`."""
