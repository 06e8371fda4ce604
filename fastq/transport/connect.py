"""Open connections to a Redis broker: found, encrypted, authenticated, on the right database, and then given away.

redis-py does the finding, TLS, AUTH and SELECT. What it leaves is a socket on which nobody but the engine speaks RESP2.
"""

from __future__ import annotations

import inspect
import socket
import ssl
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from fastq.errors import (
    AccessDenied,
    BrokerError,
    BrokerFull,
    BrokerReadOnly,
    BrokerRefused,
    BrokerUnavailable,
    FastqError,
    SettingError,
    UrlError,
)
from fastq.transport.urls import Address, Tls, read_urls

#: Options of `broker_transport_options` that are redis-py's own, passed on as they are.
_SOCKET_OPTIONS: Final = ("socket_keepalive", "socket_keepalive_options")

#: How redis-py is told not to send CLIENT SETINFO, which old servers and narrow ACLs answer with an error.
_SILENT: Final[dict[str, None]] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)

#: Starts of answers that a server gives while it cannot serve yet; trying again helps.
_NOT_YET: Final = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "TRYAGAIN")

#: Codes that redis-py replaces by a class.
_CODES: Final[tuple[tuple[type[ResponseError], str], ...]] = (
    (NoPermissionError, "NOPERM"),
    (OutOfMemoryError, "OOM"),
    (ReadOnlyError, "READONLY"),
)


class Role(NamedTuple):
    """What a server is for, and the settings that say where it is: for messages."""

    name: str
    url: str
    use_ssl: str


BROKER: Final = Role("broker", url="broker_url", use_ssl="broker_use_ssl")
RESULT_STORE: Final = Role("result store", url="result_backend", use_ssl="redis_backend_use_ssl")


class OpenConnection:
    """A socket with a Redis server at its other end, owned by whoever asked for it. Blocking."""

    def __init__(self, sock: socket.socket, *, address: Address) -> None:
        self.sock = sock
        self.address = address

    def __repr__(self) -> str:
        return f"<OpenConnection {self.address.masked()} fd={self.sock.fileno()}>"

    @property
    def is_tls(self) -> bool:
        """Whether bytes must go through `sock.recv` and `sock.send`, and not to the descriptor."""
        return isinstance(self.sock, ssl.SSLSocket)

    def fileno(self) -> int:
        return self.sock.fileno()

    def client_id(self, *, timeout_s: float) -> int | None:
        """The server's number for this connection (CLIENT ID), by which another can unblock it; None if the user may
        not ask. Blocks up to `timeout_s`; only before anything else has been sent. Raises BrokerUnavailable."""
        answer = b""
        try:
            self.sock.settimeout(timeout_s)
            self.sock.sendall(b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n")
            while not answer.endswith(b"\r\n"):
                piece = self.sock.recv(256)
                if not piece:
                    raise ConnectionResetError("the server closed the connection")
                answer += piece
            self.sock.settimeout(None)
        except OSError as error:
            raise BrokerUnavailable(f"lost the connection to {self.address.masked()}: {error}") from error
        return int(answer[1:]) if answer.startswith(b":") else None

    def close(self) -> None:
        """Close it; may be called twice."""
        self.sock.close()


class Endpoint:
    """A broker or result store: one or more alternative addresses, and how to reach them.

    Two endpoints are equal if they are the same database of the same server, whatever the user and password.
    """

    def __init__(
        self, addresses: Sequence[Address], *, options: Mapping[str, Any] | None = None, role: Role = BROKER
    ) -> None:
        self.addresses: tuple[Address, ...] = tuple(addresses)
        self.role: Role = role
        self.options: dict[str, Any] = dict(options or {})
        self._turn = 0  # of the address that answered last: all connections of a worker belong on one server

    @classmethod
    def parse(
        cls,
        url: str | Sequence[str],
        *,
        transport_options: Mapping[str, Any] | None = None,
        use_ssl: Tls | bool | None = None,
        setting: str = "broker_url",
    ) -> Endpoint:
        """From Celery's `broker_url`, `broker_transport_options`, `broker_use_ssl`. Raises UrlError or SettingError."""
        endpoint = cls(read_urls(url, use_ssl=use_ssl, setting=setting), options=transport_options)
        if any(a.kind == "unix" for a in endpoint.addresses) and not hasattr(socket, "AF_UNIX"):
            raise UrlError(f"{endpoint.masked()} is a Unix socket, which this system has not; give a redis:// address")
        if any(a.kind == "sentinel" for a in endpoint.addresses) and not endpoint.options.get("master_name"):
            raise SettingError("sentinel:// needs broker_transport_options = {'master_name': ...}; it has none")
        return endpoint

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endpoint) and self._places == other._places

    def __hash__(self) -> int:
        return hash(self._places)

    def __repr__(self) -> str:
        return f"<Endpoint {self.masked()}>"

    @property
    def _places(self) -> tuple[object, ...]:
        return (*(a.place for a in self.addresses), self.options.get("master_name"))

    @property
    def address(self) -> Address:
        """The one of its addresses that answered last."""
        return self.addresses[self._turn]

    @property
    def db(self) -> int:
        """Number of the database, which is also in the names of pub/sub channels."""
        return self.addresses[self._turn].db

    def masked(self) -> str:
        """All addresses, without passwords."""
        return ";".join(a.masked() for a in self.addresses)

    def open(self, timeout_s: float = 4.0, client_name: str = "") -> OpenConnection:
        """A new connection to the first address that answers. Blocks up to `timeout_s` for each step of each address.

        Raises BrokerUnavailable if none answers, BrokerRefused if one answers and does not let us in.
        """
        failures = []
        for address in self.in_turn():
            try:
                opened = self._open_one(address, timeout_s, client_name)
            except BrokerUnavailable as failure:
                failures.append(failure)
            else:
                self.answered(address)
                return opened
        raise self.none_answers(failures)

    def in_turn(self) -> list[Address]:
        """All addresses, the one that answered last first."""
        return [*self.addresses[self._turn :], *self.addresses[: self._turn]]

    def answered(self, address: Address) -> None:
        """Keep to this address from now on."""
        self._turn = self.addresses.index(address)

    def none_answers(self, failures: Sequence[BrokerUnavailable]) -> BrokerUnavailable:
        """The error when every address failed."""
        if len(failures) == 1:
            return failures[0]
        error = BrokerUnavailable("; ".join(f.message for f in failures), address=self.masked())
        error.__cause__ = failures[-1]
        return error

    def client(self, *, timeout_s: float | None = None) -> redis.Redis:
        """A redis-py client for rare commands, on the address that answered last. Connects when first used.

        Its answers are bytes and it repeats nothing by itself. Its own exceptions can be told with `explain`.
        """
        address = self.addresses[self._turn]
        arguments = self.arguments(address, timeout_s)
        if address.kind == "sentinel":
            found: redis.Redis = self._sentinel(address, timeout_s).master_for(self.options["master_name"], **arguments)
            return found
        pool = ConnectionPool(connection_class=_connection_class(address), **arguments, **_where(address))
        return redis.Redis.from_pool(pool)

    def explain(self, error: BaseException) -> FastqError:
        """Tell an exception of a `client()` as one of ours."""
        return explain(error, address=self.addresses[self._turn], role=self.role)

    # One address

    def _open_one(self, address: Address, timeout_s: float, client_name: str) -> OpenConnection:
        try:
            connection = self._connection(address, timeout_s)
            connection.connect()
            try:
                _greet(connection, str(self.options.get("client_name") or client_name))
            except RedisError:
                connection.disconnect()
                raise
        except RedisError as error:
            raise explain(error, address=address, role=self.role) from error
        except (OSError, TypeError, ValueError) as error:
            # Arguments that redis-py or ssl cannot use: a file that is not there, an option of the wrong type.
            raise SettingError(f"cannot connect to {address.masked()} with these options: {error}") from error
        return OpenConnection(_give_away(connection), address=address)

    def _connection(self, address: Address, timeout_s: float) -> Any:
        return _connection_class(address)(**self.arguments(address, timeout_s), **self.locate(address, timeout_s))

    def locate(self, address: Address, timeout_s: float) -> dict[str, Any]:
        """Where to connect to, in redis-py's words. Asks the sentinels, if it has to."""
        if address.kind != "sentinel":
            return _where(address)
        host, port = self._find_master(address, timeout_s)
        return {"host": host, "port": port}

    def _find_master(self, address: Address, timeout_s: float) -> tuple[str, int]:
        sentinel = self._sentinel(address, timeout_s)
        try:
            host, port = sentinel.discover_master(self.options["master_name"])
            return str(host), int(port)
        finally:
            for asked in sentinel.sentinels:
                asked.close()

    def _sentinel(self, address: Address, timeout_s: float | None) -> Any:
        limits = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        make: Any = Sentinel  # redis-py has no types here
        return make(
            list(address.sentinels),
            min_other_sentinels=int(self.options.get("min_other_sentinels") or 0),
            sentinel_kwargs={**limits, "retry": Retry(NoBackoff(), 0), **(self.options.get("sentinel_kwargs") or {})},
        )

    def arguments(self, address: Address, timeout_s: float | None) -> dict[str, Any]:
        """What every connection class of redis-py takes, besides where to connect to."""
        options = self.options
        arguments: dict[str, Any] = {
            # As text: hiredis (3.5.0) writes a number by way of repr(), where Python calls handlers of signals, and it
            # crashes if one raises.
            "db": str(address.db) if address.db else 0,
            "protocol": 2,
            "socket_timeout": _timeout_s(options, "socket_timeout") or timeout_s,
            "socket_connect_timeout": _timeout_s(options, "socket_connect_timeout") or timeout_s,
            "retry": Retry(NoBackoff(), 0),
            **_SILENT,
            **_credentials(address),
        }
        if address.kind != "unix":
            arguments |= {name: options[name] for name in _SOCKET_OPTIONS if options.get(name) is not None}
        return arguments | (address.tls or {})


def _timeout_s(options: Mapping[str, Any], name: str) -> float | None:
    value = options.get(name)
    if value is None or (isinstance(value, (int, float)) and value >= 0):
        return value
    raise SettingError(f"broker_transport_options has {name} = {value!r}; it must be a number of seconds")


def _where(address: Address) -> dict[str, Any]:
    if address.kind == "unix":
        return {"path": address.path}
    return {"host": address.host, "port": address.port}


def _connection_class(address: Address) -> type[Any]:
    if address.kind == "unix":
        return UnixDomainSocketConnection
    return Connection if address.tls is None else SSLConnection


def _credentials(address: Address) -> dict[str, Any]:
    name = address.credential_provider
    if not name:
        return {"username": address.username, "password": address.password}
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        provider = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(f"credential_provider {name!r} cannot be imported: {error}") from error
    return {"credential_provider": provider()}


def _greet(connection: Any, client_name: str) -> None:
    """One PING: a server without a password question would otherwise tell nothing until the first command."""
    try:
        connection.send_command("PING", check_health=False)
        connection.read_response()
        if client_name:
            connection.send_command("CLIENT", "SETNAME", client_name.replace(" ", "_"), check_health=False)
            connection.read_response()
    except NoPermissionError:
        pass  # the user may do neither, which is no reason not to work


def _give_away(connection: Any) -> socket.socket:
    sock: socket.socket = connection._sock
    connection._sock = None  # so that the connection, when it is collected, closes nothing
    connection._parser.on_disconnect()
    sock.settimeout(None)
    return sock


# Errors


def explain(error: BaseException, *, address: Address, role: Role = BROKER) -> FastqError:
    """Tell an exception of redis-py as one of ours, in one sentence and without a secret."""
    where = f"the {role.name} {address.masked()}"
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return AccessDenied(f"{where} does not accept this user and password; correct them in {role.url}")
    if address.tls is not None and _is_caused_by(error, FileNotFoundError):
        return SettingError(f"a file of {role.use_ssl} or of the ssl_ parameters of {where} is missing: {error}")
    if _is_caused_by(error, ssl.SSLCertVerificationError):
        return BrokerRefused(f"{where} has a certificate that is not trusted: {error}")
    if isinstance(error, MasterNotFoundError):
        return BrokerUnavailable(f"no sentinel of {where} knows a master: {error}")
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, BusyLoadingError)):
        return BrokerUnavailable(f"{where} cannot be reached: {error}")
    if isinstance(error, ResponseError):
        return refusal(_with_code(error), address=address, role=role)
    return BrokerUnavailable(f"{where} gave no usable answer: {error!r}")


def _with_code(error: ResponseError) -> str:
    """The server's answer in full: redis-py takes the code away that some of its classes stand for."""
    answer = str(error)
    for kind, code in _CODES:
        if isinstance(error, kind) and not answer.startswith(code):
            return f"{code} {answer}"
    return answer


def refusal(answer: str, *, address: Address, role: Role = BROKER) -> BrokerError:
    """Tell an error that the server answered, code and text, as one of ours. What was asked was not carried out."""
    where = f"the {role.name} {address.masked()}"
    if answer.startswith(("NOAUTH", "WRONGPASS")) or "invalid username-password" in answer:
        return AccessDenied(f"{where} does not accept this user and password; correct them in {role.url}: {answer}")
    if answer.startswith("NOPERM"):
        return AccessDenied(f"{where} does not let this user do that; give it the permission (ACL SETUSER): {answer}")
    if answer.startswith("OOM"):
        return BrokerFull(f"{where} is out of memory; free some, or raise its maxmemory: {answer}")
    if answer.startswith("READONLY"):
        return BrokerReadOnly(f"{where} is a read-only replica; name its primary in {role.url}: {answer}")
    if answer.startswith(_NOT_YET):
        return BrokerUnavailable(f"{where} cannot serve yet: {answer}")
    if "DB index" in answer:
        return BrokerRefused(f"{where} has no database {address.db}; give a smaller number in {role.url}: {answer}")
    return BrokerRefused(f"{where} refuses what it was asked for: {answer}")


def _is_caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
