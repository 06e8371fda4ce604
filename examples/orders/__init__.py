"""The same orders twice: as a Celery application, and as a native one (docs/guide/from-celery.md)."""
