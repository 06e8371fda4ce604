"""What the store remembers."""

from django.db import models


class Order(models.Model):
    """One order; `state` is what tasks have made of it."""

    name = models.CharField(max_length=100, unique=True)
    state = models.CharField(max_length=100, default="new")
