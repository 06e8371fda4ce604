"""Read the addresses of a Redis broker as kombu reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from fastq.errors import SettingError, UrlError

DEFAULT_PORT: Final = 6379
DEFAULT_HOST: Final = "127.0.0.1"

#: Transport and server scheme of each URL scheme that is understood.
_KINDS: Final[dict[str, Literal["tcp", "unix", "sentinel"]]] = {
    "redis": "tcp",
    "rediss": "tcp",
    "redis+socket": "unix",
    "socket": "unix",
    "unix": "unix",
    "sentinel": "sentinel",
}

_CERT_REQS: Final = ("required", "optional", "none")

#: Query parameters that are no TLS option. `db` is redis-py's word for kombu's `virtual_host`.
_PARAMETERS: Final = frozenset({"virtual_host", "db", "credential_provider"})

Tls = Mapping[str, Any]


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One server, or one group of sentinels, with a database number and what is needed to be let in."""

    kind: Literal["tcp", "unix", "sentinel"]
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None
    #: redis-py's `ssl_*` arguments; None without TLS.
    tls: dict[str, Any] | None = None
    #: Host and port of each sentinel.
    sentinels: tuple[tuple[str, int], ...] = ()
    #: Dotted name of a redis.CredentialProvider, in place of user and password.
    credential_provider: str | None = None

    def __repr__(self) -> str:
        return f"<Address {self.masked()}>"

    @property
    def place(self) -> tuple[object, ...]:
        """What tells two databases apart, whoever asks."""
        return (self.kind, self.sentinels or self.path or (self.host, self.port), self.db)

    def masked(self) -> str:
        """The URL without its password, for logs."""
        user = f"{self.username or ''}{':**' if self.password else ''}"
        who = f"{user}@" if user else ""
        if self.kind == "unix":
            return f"redis+socket://{who}{self.path}?virtual_host={self.db}"
        if self.kind == "sentinel":
            hosts = ";".join(f"sentinel://{who}{_at(host, port)}" for host, port in self.sentinels)
            return f"{hosts}/{self.db}"
        return f"{'redis' if self.tls is None else 'rediss'}://{who}{_at(self.host, self.port)}/{self.db}"


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_urls(
    url: str | Sequence[str], *, use_ssl: Tls | bool | None = None, setting: str = "broker_url"
) -> tuple[Address, ...]:
    """All alternatives of a broker URL, `;`-separated or a list, in order. All sentinels together are one alternative.

    `setting` is what an error names: broker_url or result_backend.
    Raises UrlError, never with the password in it; SettingError for an impossible `broker_use_ssl`.
    """
    urls = [url] if isinstance(url, str) else list(url)
    split = [_split(part, setting) for text in urls for part in text.split(";") if part.strip()]
    if not split:
        raise UrlError("the broker URL is empty; write for example redis://localhost:6379/0", url=str(url))
    addresses = [_address(scheme, parts, use_ssl=use_ssl) for scheme, parts in split]
    if addresses[0].kind == "sentinel":
        return (_grouped(addresses),)
    return tuple(addresses)


def _grouped(addresses: Sequence[Address]) -> Address:
    # User, password and database are those of the first, as in kombu; the others are only more sentinels to ask.
    sentinels = tuple((a.host, a.port) for a in addresses if a.kind == "sentinel")
    return msgspec.structs.replace(addresses[0], sentinels=sentinels)


#: What a worker takes instead of a setting.
_OPTIONS = {"broker_url": "-b", "result_backend": "--result-backend"}


def _split(text: str, setting: str) -> tuple[str, SplitResult]:
    scheme, found, rest = text.strip().partition("://")
    scheme = scheme.lower()
    if not found or scheme not in _KINDS:
        known = ", ".join(f"{name}://" for name in _KINDS)
        shown = scheme if found else "no scheme"
        raise UrlError(
            f"{setting} has {shown!r} where one of {known} is needed: fastq works on Redis; change it, or give "
            f"{_OPTIONS[setting]} redis://localhost:6379/0",
            scheme=scheme,
        )
    try:
        parts = urlsplit(f"http://{rest}")
        _ = parts.port
    except ValueError as error:
        # The cause may quote the URL, so it is not told.
        raise UrlError(f"the {scheme}:// broker URL has a host or port that cannot be read") from error
    return scheme, parts


def _address(scheme: str, parts: SplitResult, *, use_ssl: Tls | bool | None) -> Address:
    query = dict(parse_qsl(parts.query))
    unknown = sorted(name for name in query if name not in _PARAMETERS and not name.startswith("ssl_"))
    if unknown:
        raise UrlError(f"the broker URL has unknown parameters {', '.join(unknown)}; set broker_transport_options")
    kind = _KINDS[scheme]
    path = unquote(parts.path)
    return Address(
        kind=kind,
        host=unquote(parts.hostname or "") or DEFAULT_HOST,
        port=parts.port or DEFAULT_PORT,
        path=path if kind == "unix" else "",
        db=_database(query.get("virtual_host") or query.get("db") or ("" if kind == "unix" else path)),
        username=unquote(parts.username or "") or None,
        password=unquote(parts.password or "") or None,
        tls=_tls(scheme, {k: v for k, v in query.items() if k.startswith("ssl_")}, use_ssl),
        credential_provider=query.get("credential_provider"),
    )


def _database(text: str) -> int:
    number = text.removeprefix("/")
    if not number:
        return 0
    if not number.isdecimal():
        raise UrlError(f"the broker URL names database {number!r}; Redis databases are numbers from 0", db=number)
    return int(number)


# TLS


def _tls(scheme: str, query: Mapping[str, str], use_ssl: Tls | bool | None) -> dict[str, Any] | None:
    """redis-py's arguments. The query counts before `broker_use_ssl`, as in kombu."""
    if _KINDS[scheme] == "unix":
        return None
    if query:
        return {name: _tls_value(name, value) for name, value in query.items()}
    if isinstance(use_ssl, Mapping) and use_ssl:
        return _checked(use_ssl)
    # `broker_use_ssl = True` says nothing that redis-py could use: kombu then leaves a redis:// connection plain.
    return {"ssl_cert_reqs": _cert_reqs("none")} if scheme == "rediss" else None


def _checked(use_ssl: Tls) -> dict[str, Any]:
    strange = sorted(str(name) for name in use_ssl if not str(name).startswith("ssl_"))
    if strange:
        raise SettingError(f"broker_use_ssl has {', '.join(strange)}; Redis needs names that start with ssl_")
    return {str(name): _tls_value(str(name), value) for name, value in use_ssl.items()}


def _tls_value(name: str, value: Any) -> Any:
    if name == "ssl_cert_reqs" and isinstance(value, str):
        word = value.lower().removeprefix("cert_")
        if word not in _CERT_REQS:
            raise SettingError(f"ssl_cert_reqs is {value!r}; it may be required, optional or none")
        return _cert_reqs(word)
    if name == "ssl_check_hostname" and isinstance(value, str):
        return value.lower() != "false"
    return value


def _cert_reqs(word: str) -> Any:
    import ssl  # 10 ms that most programs can do without

    return ssl.VerifyMode[f"CERT_{word.upper()}"]
