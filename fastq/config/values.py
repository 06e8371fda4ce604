"""Read the values of options from text, with one clear sentence when they cannot be read."""

from __future__ import annotations

import re

import msgspec

from fastq import log
from fastq.errors import OptionError

#: Concurrency that is taken from the CPUs this process may use.
AUTO = "auto"

#: Pools that mean "processes, forked": all that fastq has.
POOLS = ("prefork", "processes")

#: Messages that --dead-letter can put aside.
DEAD_LETTERS = ("retries", "unknown", "undecodable")

#: Celery's others, refused by name.
OTHER_POOLS = ("eventlet", "gevent", "solo", "threads", "custom")

_KEY = re.compile(r"[.]?[A-Za-z_][A-Za-z0-9_.]*")


def comma_list(text: str) -> tuple[str, ...]:
    """`a,b` as ("a", "b"); blanks around a name and empty names do not count."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def concurrency(text: str) -> int | str | None:
    """A count of children, `auto`, or None for 0: let the application decide."""
    if text.strip().lower() == AUTO:
        return AUTO
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise OptionError(f"concurrency must be 'auto' or a whole number from 0 up, got {text!r}")
    return count or None


def autoscale(text: str) -> tuple[int, int] | str:
    """`10,3` or `3,10` as (10, 3): most and fewest children. A single number is the most. Or `auto`."""
    if text.strip().lower() == AUTO:
        return AUTO
    try:
        numbers = sorted(int(part) for part in text.split(","))
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2 or numbers[0] < 0 or numbers[-1] < 1:
        raise OptionError(f"autoscale must be 'auto', or one or two whole numbers such as 10,3, got {text!r}")
    return numbers[-1], numbers[0] if len(numbers) == 2 else 0


def dead_letters(text: str) -> tuple[str, ...]:
    """Reasons to put a message aside: `retries,unknown`."""
    return tuple(one_of(name, DEAD_LETTERS) for name in comma_list(text))


def loglevel(text: str) -> str:
    """The name of a level in capitals, or a number, as text."""
    try:
        log.level_number(text)
    except ValueError as error:
        raise OptionError(str(error)) from None
    return text.strip().upper()


def pool(text: str) -> str:
    """One of the pools that fastq has. The others are refused by name, with what to do about it."""
    name = text.strip()
    if name in POOLS:
        return name
    if name in OTHER_POOLS:
        raise OptionError(
            f"pool {name!r} is not available: fastq runs tasks in forked processes only. "
            f"Use --pool prefork, or leave these queues to `celery worker --pool {name}`"
        )
    raise OptionError(f"no pool is called {name!r}; there is {' and '.join(POOLS)} (the same)")


def whole(text: str) -> int:
    """A whole number from 0 up."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise OptionError(f"must be a whole number from 0 up, got {text!r}")
    return number


def seconds(text: str) -> float:
    """A time in seconds, from 0 up."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise OptionError(f"must be a number of seconds from 0 up, got {text!r}")
    return number


def override(text: str) -> tuple[str, str]:
    """A setting given after `--`: `worker.prefetch_multiplier=1` as ("worker_prefetch_multiplier", "1").

    A name that starts with a dot belongs to `worker`. The value stays text, `(list)["a"]` and the like included:
    what type the setting has, only the application's side knows.
    """
    key, equals, value = text.partition("=")
    if not equals or not _KEY.fullmatch(key):
        raise OptionError(
            f"a setting after -- is written name=value, such as worker.prefetch_multiplier=1; got {text!r}"
        )
    name = key.lower().replace(".", "_")
    return (f"worker{name}" if name.startswith("_") else name), value


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen: a host and a port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"

    @property
    def is_private(self) -> bool:
        """Whether only this host can reach it."""
        return bool(self.path) or self.host in ("localhost", "::1") or self.host.startswith("127.")


def listen(text: str) -> Listen:
    """`127.0.0.1:8080`, `[::1]:8080`, `8080` (on the loopback address), or `unix:/run/fastq.sock`."""
    if text.startswith(("unix:", "/")):
        return Listen(path=text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536 or (colon and not host):
        raise OptionError(f"must be an address such as 127.0.0.1:8080, or unix:/path, got {text!r}")
    return Listen(host=host.strip("[]") or "127.0.0.1", port=int(port))


def log_lines(text: str) -> str:
    """`text` or `json`."""
    return one_of(text, ("text", "json"))


def umask(text: str) -> int:
    """A file mask: octal with a leading zero, else decimal, as Celery reads it."""
    try:
        number = int(text, 8 if text.startswith("0") else 10)
    except ValueError:
        number = -1
    if not 0 <= number <= 0o777:
        raise OptionError(f"must be a file mask such as 022, got {text!r}")
    return number


def optimization(text: str) -> str:
    """`default` or `fair`."""
    return one_of(text, ("default", "fair"))


def start_method(text: str) -> str:
    """`fork` or `spawn`."""
    return one_of(text, ("fork", "spawn"))


def one_of(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise OptionError(f"must be {' or '.join(repr(choice) for choice in choices)}, got {text!r}")
    return text


def prefetch(text: str) -> int | None:
    """Messages per child; None for 0, which leaves it to the application, as in Celery."""
    return whole(text) or None
