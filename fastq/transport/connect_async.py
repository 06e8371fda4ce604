"""Open connections to a Redis broker for a program with an event loop: the twin of `Endpoint.open`.

redis-py does the finding, TLS, AUTH and SELECT here, too, and is left without its streams afterwards.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError

from fastq.errors import BrokerUnavailable, SettingError
from fastq.transport.connect import Endpoint, explain
from fastq.transport.urls import Address


async def open_streams(endpoint: Endpoint, *, timeout_s: float, client_name: str = "") -> asyncio.StreamWriter:
    """Connect to the first address that answers; nothing is left to be read. The writer knows the transport.

    Raises BrokerUnavailable if none answers, BrokerRefused if one answers and does not let us in.
    """
    failures = []
    for address in endpoint.in_turn():
        try:
            writer = await _open_one(endpoint, address, timeout_s, client_name)
        except BrokerUnavailable as failure:
            failures.append(failure)
        else:
            endpoint.answered(address)
            return writer
    raise endpoint.none_answers(failures)


async def _open_one(endpoint: Endpoint, address: Address, timeout_s: float, client_name: str) -> asyncio.StreamWriter:
    try:
        # Sentinels are asked in a thread: rare, and there is one implementation of it.
        where = await asyncio.to_thread(endpoint.locate, address, timeout_s)
        arguments = {**endpoint.arguments(address, timeout_s), **where, "retry": Retry(NoBackoff(), 0)}
        connection = _connection_class(address)(**arguments)
        await connection.connect()
        try:
            await _greet(connection, str(endpoint.options.get("client_name") or client_name))
        except RedisError:
            await connection.disconnect(nowait=True)
            raise
    except RedisError as error:
        raise explain(error, address=address, role=endpoint.role) from error
    except (OSError, TypeError, ValueError) as error:
        raise SettingError(f"cannot connect to {address.masked()} with these options: {error}") from error
    return _give_away(connection)


def _connection_class(address: Address) -> type[Any]:
    if address.kind == "unix":
        return UnixDomainSocketConnection
    return Connection if address.tls is None else SSLConnection


async def _greet(connection: Any, client_name: str) -> None:
    try:
        await connection.send_command("PING", check_health=False)
        await connection.read_response()
        if client_name:
            await connection.send_command("CLIENT", "SETNAME", client_name.replace(" ", "_"), check_health=False)
            await connection.read_response()
    except NoPermissionError:
        pass  # the user may do neither, which is no reason not to work


def _give_away(connection: Any) -> asyncio.StreamWriter:
    writer: asyncio.StreamWriter = connection._writer
    connection._reader = connection._writer = None  # so that the connection, when it is collected, closes nothing
    return writer
