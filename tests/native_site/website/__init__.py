"""A Django project whose tasks are those of a native application."""
