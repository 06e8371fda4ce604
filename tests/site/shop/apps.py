"""What happens when Django is set up: something that leaves a connection open, and a check."""

import os
from typing import Any

from django.apps import AppConfig
from django.core.checks import Error, register


class ShopConfig(AppConfig):
    """The shop."""

    name = "shop"

    def ready(self) -> None:
        """Open a database connection, as careless applications do."""
        from django.db import connection

        connection.ensure_connection()


@register()
def is_open(**_kwargs: Any) -> list[Error]:
    """Raises if the test says so; what it returned would only be shown by `manage.py check`."""
    if os.environ.get("FASTQ_TEST_CLOSED"):
        raise RuntimeError("the shop is closed on purpose")
    return []
