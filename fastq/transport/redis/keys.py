"""Name every key that fastq uses on a Redis broker, each in one place.

A queue key is the name of the list a queue's messages of one priority wait in, without `global_keyprefix`: `celery`, or
`celery`, separator, `3`. What leaves this file has the prefix. A claim's name holds its queue's full name in braces, so
that a cluster keeps both in one slot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fastq.wire.envelope import PRIORITY_STEPS, SEPARATOR, queue_key

#: Any text: a queue or a node may be called almost anything.
_CLAIM: Final = re.compile(r"fastq:claim:\{(?P<queue>.*)\}:(?P<worker>.*):(?P<number>\d+)", re.DOTALL)
_DEAD: Final = re.compile(r"fastq:dead:\{(?P<queue>.*)\}", re.DOTALL)
_CLAIMS: Final = re.compile(r"fastq:claims:\{(?P<queue>.*)\}:(?P<worker>.*)", re.DOTALL)


class Claim(msgspec.Struct, frozen=True):
    """What the name of a claim list says."""

    queue_key: str
    worker: str
    number: int


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The names, and the transport options they follow from."""

    prefix: str = ""
    separator: str = SEPARATOR
    priority_steps: tuple[int, ...] = PRIORITY_STEPS
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    unacked_mutex_key: str = "unacked_mutex"
    #: Queue for messages whose exchange leads nowhere; kombu's option, by default there is none.
    deadletter_queue: str | None = None
    #: kombu's options of pub/sub channels: True stands for "/DB.", False for nothing.
    fanout_prefix: bool | str = True
    fanout_patterns: bool = True

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Keys:
        """From Celery's `broker_transport_options`."""
        steps = options.get("priority_steps")
        return cls(
            prefix=options.get("global_keyprefix") or "",
            separator=options.get("sep") or SEPARATOR,
            priority_steps=tuple(steps) if steps else PRIORITY_STEPS,
            unacked_key=options.get("unacked_key") or "unacked",
            unacked_index_key=options.get("unacked_index_key") or "unacked_index",
            unacked_mutex_key=options.get("unacked_mutex_key") or "unacked_mutex",
            deadletter_queue=options.get("deadletter_queue"),
            fanout_prefix=options.get("fanout_prefix", True),
            fanout_patterns=bool(options.get("fanout_patterns", True)),
        )

    # Queues

    def queue_key(self, queue: str, *, priority: object = 0) -> str:
        """The queue key that a message of this priority belongs in; no prefix yet."""
        return queue_key(queue, priority, steps=self.priority_steps, separator=self.separator)

    def queue_keys(self, queue: str) -> tuple[str, ...]:
        """All queue keys of a queue, first the one that is read first; no prefix yet."""
        return tuple(f"{queue}{self.separator}{step}" if step else queue for step in self.priority_steps)

    def waiting(self, queue_key: str) -> str:
        """The list that messages wait in."""
        return self.prefix + queue_key

    # Ours

    def claim(self, queue_key: str, worker: str, *, number: int) -> str:
        """List: one batch of claimed messages, the first claimed at the right end."""
        return f"{self.prefix}fastq:claim:{{{self.prefix}{queue_key}}}:{worker}:{number}"

    def claims(self, queue_key: str, worker: str) -> str:
        """Set: the numbers of a worker's claim lists on one queue key."""
        return f"{self.prefix}fastq:claims:{{{self.prefix}{queue_key}}}:{worker}"

    def heartbeat(self, worker: str) -> str:
        """Text that expires some seconds after the worker's end."""
        return f"{self.prefix}fastq:worker:{worker}"

    @property
    def workers(self) -> str:
        """Hash: the registry, from worker to what it is."""
        return f"{self.prefix}fastq:workers"

    def flush(self, worker: str) -> str:
        """Number: the last settlement that was applied."""
        return f"{self.prefix}fastq:flush:{worker}"

    def dead(self, queue_key: str) -> str:
        """List: messages that were put aside, the newest at the left end (see `wire.deadletter`)."""
        return f"{self.prefix}fastq:dead:{{{self.prefix}{queue_key}}}"

    def crashes(self, queue_key: str, identity: str) -> str:
        """List: the processes that ended while they ran this message. Expires."""
        return f"{self.prefix}fastq:crashes:{{{self.prefix}{queue_key}}}:{identity}"

    def running(self, worker: str) -> str:
        """Text: where the late acknowledged messages lie that a worker runs. Expires."""
        return f"{self.prefix}fastq:running:{worker}"

    @property
    def slots(self) -> str:
        """Sorted set: for which slots somebody waits; the names of their own keys begin so (see `slots`)."""
        return f"{self.prefix}fastq:slots"

    @property
    def cancelled(self) -> str:
        """Sorted set: ids of tasks that were cancelled (see `cancelled`). Expires."""
        return f"{self.prefix}fastq:cancelled"

    def schedule(self, app: str) -> str:
        """Text: which process sends what is due in an application. Expires."""
        return f"{self.prefix}fastq:schedule:{{{app}}}"

    def schedule_entries(self, app: str) -> str:
        """Hash: of each entry of an application's schedule, what was done last."""
        return f"{self.schedule(app)}:entries"

    def schedule_term(self, app: str) -> str:
        """Number: how often the lead of an application's schedule was taken."""
        return f"{self.schedule(app)}:term"

    def parse_dead(self, key: str | bytes) -> str | None:
        """The queue key that `dead` was called with; None for any other key."""
        found = self._match(_DEAD, key)
        return self._bare(found["queue"]) if found else None

    def parse_claim(self, key: str | bytes) -> Claim | None:
        """What `claim` was called with; None for any other key."""
        found = self._match(_CLAIM, key)
        return Claim(self._bare(found["queue"]), found["worker"], int(found["number"])) if found else None

    def parse_claims(self, key: str | bytes) -> tuple[str, str] | None:
        """Queue key and worker that `claims` was called with; None for any other key."""
        found = self._match(_CLAIMS, key)
        return (self._bare(found["queue"]), found["worker"]) if found else None

    def _match(self, pattern: re.Pattern[str], key: str | bytes) -> re.Match[str] | None:
        text = key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else key
        return pattern.fullmatch(text.removeprefix(self.prefix)) if text.startswith(self.prefix) else None

    def _bare(self, queue: str) -> str:
        return queue.removeprefix(self.prefix)

    # kombu's

    @property
    def unacked(self) -> str:
        """Hash: what stock workers hold."""
        return self.prefix + self.unacked_key

    @property
    def unacked_index(self) -> str:
        """Sorted set: since when."""
        return self.prefix + self.unacked_index_key

    @property
    def unacked_mutex(self) -> str:
        """Lock of those who restore."""
        return self.prefix + self.unacked_mutex_key

    def binding(self, exchange: str) -> str:
        """Set: which queues an exchange leads to."""
        return f"{self.prefix}_kombu.binding.{exchange}"

    def binding_permanent(self, exchange: str) -> str:
        """Set: those of them that do not expire."""
        return f"{self.prefix}_kombu.binding_permanent.{exchange}"

    # Pub/sub

    def channel(self, exchange: str, routing_key: str = "", *, db: int) -> str:
        """What a fanout exchange publishes on. Database numbers are in the name because channels know no databases."""
        before = self.fanout_prefix if isinstance(self.fanout_prefix, str) else "/{db}." if self.fanout_prefix else ""
        after = f"/{routing_key}" if routing_key and self.fanout_patterns else ""
        return f"{self.prefix}{before.format(db=db)}{exchange}{after}"
