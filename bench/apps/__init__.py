"""The applications that are measured: ordinary Celery applications, the same for both engines."""
