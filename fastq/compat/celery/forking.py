"""Leave nothing open in the nursery that two children would then share."""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import contextlib
from typing import Any


def close_connections(app: Any) -> None:
    """Close what the application opened while it was imported: broker pools, the result store's connections.

    Sockets that parent and child share would mix up their replies. Databases are the application's own business, as
    with Celery (its Django fixup closes Django's).
    """
    _close_broker_pools(app)
    _close_result_store(app)


def _close_broker_pools(app: Any) -> None:
    from kombu import pools

    if app._pool is not None:
        with contextlib.suppress(Exception):  # a connection that cannot say goodbye is closed all the same
            app._pool.force_close_all()
        app._pool = None
    with contextlib.suppress(Exception):
        pools.reset()
    amqp = vars(app).get("amqp")
    if amqp is not None:
        amqp._producer_pool = None


def _close_result_store(app: Any) -> None:
    backend = getattr(app._local, "backend", None) or app._backend_cache
    if backend is None:
        return
    client = vars(backend).get("client")
    if client is not None and hasattr(client, "connection_pool"):
        client.connection_pool.disconnect()
        vars(backend).pop("client", None)
