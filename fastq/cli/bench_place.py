"""Where `fastq bench` works: under a key prefix of its own, so that no key of anybody else is read or written.

The worker gets the prefix as `global_keyprefix` of broker and result store. So queue, claims, registry and results
are its own, and it takes no part in the housekeeping that workers of one broker do for each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fastq import clock
from fastq.errors import OptionError

if TYPE_CHECKING:
    import redis

    from fastq.program import ProgramInfo
    from fastq.transport.connect import Endpoint
    from fastq.transport.redis.keys import Keys

#: What every key of every bench begins with, after the application's own prefix.
NAME: Final = "fastq-bench-"

QUEUE: Final = "bench"

#: Seconds that messages survive a bench that was killed. Longer than any bench.
LEFT_S = 3600 * 6

#: Keys that one SCAN looks at, and one UNLINK removes at most.
STEP = 1000

_OURS = re.compile(rb"(.*[^0-9a-z])?" + NAME.encode() + rb"[0-9a-f]{12}:.*", re.DOTALL)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One bench's part of a broker and of a result store."""

    broker: Any
    #: None: results are not kept on Redis.
    results: Any
    prefix: str
    result_prefix: str
    #: Settings for the worker's command line.
    overrides: list[str]
    #: Parts of the settings that a command line cannot carry, and that the worker goes without.
    dropped: list[str]

    @property
    def keys(self) -> Keys:
        """Names of keys of the broker."""
        from fastq.transport.redis.keys import Keys

        return Keys(prefix=self.prefix)

    @property
    def queue_key(self) -> str:
        """The list that messages wait in."""
        return f"{self.prefix}{QUEUE}"

    def clear(self) -> int:
        """Remove everything under the prefix; return how many keys."""
        return sum(unlink(client(endpoint), f"{literal(prefix)}*", only=None) for endpoint, prefix in self._ends())

    def _ends(self) -> Iterator[tuple[Endpoint, str]]:
        yield self.broker, self.prefix
        if self.results is not None and (self.results, self.result_prefix) != (self.broker, self.prefix):
            yield self.results, self.result_prefix


def choose(info: ProgramInfo) -> Place:
    """A place that nobody has used. Raises UrlError or SettingError for addresses that cannot be read."""
    from fastq.transport.connect import Endpoint
    from fastq.worker.parts import result_endpoint

    broker = Endpoint.parse(info.broker_urls, transport_options=info.transport_options, use_ssl=info.broker_use_ssl)
    results = result_endpoint(info.results) if info.results.kind == "redis" else None
    name = f"{NAME}{clock.random_hex(12)}:"
    prefix = f"{info.transport_options.get('global_keyprefix') or ''}{name}"
    result_prefix = f"{_result_prefix(info.results.transport_options)}{name}"
    overrides, dropped = [], []
    for setting, options, chosen in (
        ("broker.transport_options", info.transport_options, prefix),
        ("result.backend_transport_options", info.results.transport_options, result_prefix),
    ):
        kept = {key: value for key, value in options.items() if _can_be_written(value)}
        dropped += [f"{setting.replace('.', '_')}[{key!r}]" for key in options if key not in kept]
        overrides.append(f"{setting}=(dict){json.dumps({**kept, 'global_keyprefix': chosen})}")
    # Its channels and bindings are not made by a sender, and are not needed here.
    overrides.append("worker.enable_remote_control=0")
    return Place(
        broker=broker,
        results=results,
        prefix=prefix,
        result_prefix=result_prefix,
        overrides=overrides,
        dropped=dropped,
    )


def _result_prefix(options: Mapping[str, Any]) -> str:
    """As Celery reads it: an underscore is put behind a prefix that has no mark at its end."""
    prefix = str(options.get("global_keyprefix") or "")
    return prefix if not prefix or prefix[-1] in ":_-." else f"{prefix}_"


def _can_be_written(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == (list(value) if isinstance(value, tuple) else value))
    except (TypeError, ValueError):
        return False


def client(endpoint: Endpoint) -> redis.Redis:
    """A client for rare commands. Raises BrokerUnavailable or BrokerRefused, in words, if it cannot connect."""
    endpoint.open().close()
    return endpoint.client(timeout_s=10.0)


def unlink(server: redis.Redis, pattern: str, *, only: re.Pattern[bytes] | None) -> int:
    """Remove keys that match, a thousand at a time, while others are served; return how many."""
    found: list[bytes] = []
    removed = 0
    for key in server.scan_iter(match=pattern, count=STEP):
        if only is None or only.fullmatch(key):
            found.append(key)
        if len(found) == STEP:
            removed += _gone(server, found)
            found = []
    return removed + _gone(server, found)


def _gone(server: redis.Redis, keys: list[bytes]) -> int:
    gone: Any = server.unlink(*keys) if keys else 0
    return int(gone)


def clean(endpoints: list[Endpoint]) -> int:
    """Remove what benches left that were killed, whatever prefix the application has; return how many keys."""
    return sum(unlink(client(endpoint), f"*{NAME}*", only=_OURS) for endpoint in dict.fromkeys(endpoints))


def literal(text: str) -> str:
    """A key's text as a pattern that matches nothing else."""
    return re.sub(r"([\\\[\]*?])", r"\\\1", text)


def read_json(text: str, *, flag: str, kind: type) -> Any:
    """The value of --args or --kwargs. Raises OptionError that says what was expected."""
    wanted = "a JSON list, such as '[1, \"a\"]'" if kind is list else "a JSON object, such as '{\"name\": 1}'"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise OptionError(f"{flag}: must be {wanted}; {text!r} is not JSON: {error}") from None
    if not isinstance(value, kind):
        raise OptionError(f"{flag}: must be {wanted}, got {text!r}")
    return value
