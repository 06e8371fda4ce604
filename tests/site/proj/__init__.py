"""A Django project, laid out as Celery's guide says."""

from proj.celery import app as celery_app

__all__ = ("celery_app",)
