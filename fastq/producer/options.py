"""What can be said about a send besides name and arguments, and which Redis key it leads to."""

from __future__ import annotations

from bisect import bisect
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import msgspec

from fastq.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastq.errors import BrokerError

#: "celery": protocol 2, which every Celery worker and client understands. "fastq": MessagePack, for fastq's workers.
Wire = Literal["celery", "fastq"]

#: Attempts after the first, as in Celery's publish policy.
RETRIES = 3

#: Seconds for each step: to connect, and for Redis to answer.
TIMEOUT_S = 5.0

#: What separates a queue's name from its priority step in a key. kombu's default.
SEPARATOR = "\x06\x16"

#: kombu's four priority steps; 0 is the bare key and is read first.
PRIORITY_STEPS = (0, 3, 6, 9)


def _at_least(options: msgspec.Struct, least: int, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
            raise OptionError(f"{type(options).__name__}: {name} is a number from {least} on, not {value!r}")


class Replicas(msgspec.Struct, frozen=True):
    """How many replicas have to confirm that they have a message, and for how long that is waited for (Redis' WAIT)."""

    count: int
    timeout_s: float = 1.0

    def __post_init__(self) -> None:
        """Raises OptionError for numbers that mean nothing."""
        _at_least(self, 0, "count", "timeout_s")


class Buffering(msgspec.Struct, frozen=True, kw_only=True):
    """How a producer collects messages to send them together, and what it may keep."""

    #: Seconds that a message may wait for others.
    max_delay_s: float = 0.01
    #: Messages that are kept, at most: waiting, on their way, or not to be got rid of because Redis is away.
    max_messages: int = 10_000
    #: Bytes of those messages, likewise.
    max_bytes: int = 64 * 1024 * 1024
    #: What a send does when there is no room: wait for it, for `block_s`, or raise BufferFull at once.
    when_full: Literal["block", "raise"] = "block"
    block_s: float = 30.0
    #: Seconds that closing and the end of the program may take to send what is left.
    close_s: float = 5.0
    #: Called, in the thread that sends, with the error of each attempt that failed, and with the last one at the end,
    #: whose `unsent_ids` and `unknown_ids` are the messages that were given up. Without it the log says the same.
    on_error: Callable[[BrokerError], object] | None = None

    def __post_init__(self) -> None:
        """Raises OptionError for bounds that mean nothing."""
        _at_least(self, 0, "max_delay_s", "block_s", "close_s")
        _at_least(self, 1, "max_messages", "max_bytes")
        if self.when_full not in ("block", "raise"):
            raise OptionError(f"Buffering: when_full is 'block' or 'raise', not {self.when_full!r}")


class ProducerSettings(TypedDict, total=False):
    """The arguments of a Producer and of an AsyncProducer, besides the address."""

    queue: str
    priority: int
    serializer: str
    wire: Wire
    ignore_result: bool | None
    transport_options: Mapping[str, Any] | None
    use_ssl: Mapping[str, Any] | bool | None
    result_url: str | Sequence[str] | None
    result_options: Mapping[str, Any] | None
    result_prefix: str
    control_exchange: str
    confirm: Replicas | None
    retries: int
    timeout_s: float


class SendOptions(TypedDict, total=False):
    """The options of a send, named as Celery's `apply_async` names them."""

    queue: str
    priority: int
    countdown: float
    eta: datetime | str
    expires: float | datetime | str
    headers: Mapping[str, Any]
    ignore_result: bool
    task_id: str
    time_limit: float
    soft_time_limit: float
    shadow: str
    argsrepr: str
    kwargsrepr: str
    reply_to: str
    root_id: str
    parent_id: str
    group_id: str
    group_index: int
    retries: int


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one send; an absent one is what Celery writes for a task it knows by name only."""

    queue: str | None = None
    priority: int | None = None
    countdown: float | None = None
    eta: datetime | str | None = None
    expires: float | datetime | str | None = None
    headers: Any = None
    ignore_result: bool | None = None
    task_id: str | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    reply_to: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    group_index: int | None = None
    retries: int = 0
    #: Callbacks, errbacks, chain, chord: the third part of the body; None: there are none.
    embed: Any = None


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """How queue and priority become a Redis key: transport options that producers and workers must share."""

    prefix: str = ""
    separator: str = SEPARATOR
    steps: tuple[int, ...] = PRIORITY_STEPS

    @classmethod
    def from_options(cls, options: Mapping[str, Any] | None) -> Keys:
        """Read `global_keyprefix`, `sep` and `priority_steps` of `broker_transport_options`."""
        given = options or {}
        return cls(
            prefix=given.get("global_keyprefix") or "",
            separator=given.get("sep", SEPARATOR),
            steps=tuple(sorted(given.get("priority_steps") or PRIORITY_STEPS)),
        )

    def key(self, queue: str, *, priority: int) -> str:
        """Return the list a message of this priority goes to; priorities are held to 0..9, as kombu does."""
        step = self.steps[bisect(self.steps, max(0, min(9, priority))) - 1]
        return f"{self.prefix}{queue}{self.separator}{step}" if step else f"{self.prefix}{queue}"
