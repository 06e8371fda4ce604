"""Ordinary Celery applications, run by whichever engine is under test."""
