"""What the shop remembers."""

from django.db import models


class Order(models.Model):
    """One order; `pid` is the process that wrote it."""

    name = models.CharField(max_length=100, unique=True)
    pid = models.IntegerField()
