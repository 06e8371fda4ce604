"""Run an existing Celery application: found, set up, forked and executed as Celery does it."""
