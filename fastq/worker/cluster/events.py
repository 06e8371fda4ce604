"""Tell monitors what happens: events of tasks and of this worker, in batches, beside the flushes.

Events are best effort. They never hold a task up: while the broker is away the latest are kept, and the oldest beyond
a limit are dropped, counted, and said to be.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fastq import _core
from fastq.program import EventsInfo, TaskInfo
from fastq.transport.redis.commands import pack
from fastq.wire.event import FORMATS, event_head, event_message, received_fields, routing_key, zone_named
from fastq.worker.pipeline.settle import Settler
from fastq.worker.poll import Timers

logger: logging.Logger = logging.getLogger(__name__)

#: Bytes of events that wait for the broker at most: about 50,000 of them.
MOST_WAITING = 16 << 20

#: Events of the worker itself that wait for the broker at most.
MOST_OWN = 100

#: What a message with several events of tasks is called.
MANY = "task-multi"

#: Bytes of events sent before the server has answered. Redis cuts a subscriber off that is some megabytes behind.
MOST_FLYING = 1 << 20


class Waiting(msgspec.Struct, frozen=True):
    """Events for one message: JSON objects with commas between."""

    kind: str
    data: bytes
    count: int


class Counts(msgspec.Struct, frozen=True):
    """What a heartbeat says of the worker."""

    active: int
    processed: int


class Events:
    """The events of one worker. Everything here returns at once."""

    def __init__(
        self,
        ledger: _core.Ledger,
        *,
        segment: _core.Segment,
        node: str,
        info: EventsInfo,
        tasks: Sequence[TaskInfo],
        channel: Callable[[str], str],
        counts: Callable[[], Counts],
        settler: Settler,
        timers: Timers,
    ) -> None:
        self._ledger, self._segment, self._node, self._info = ledger, segment, node, info
        self._told: list[bool] = []
        self.channel: Callable[[str], str] = channel
        self._counts, self._settler, self._timers = counts, settler, timers
        self._serializer = info.serializer if info.serializer in FORMATS else "json"
        self._zone = zone_named(info.timezone)
        self._pen = _core.EventPen(segment, lambda: event_head(node, pid=os.getpid()))
        #: Of this worker: few, and never behind what tasks have to tell.
        self._own: list[Waiting] = []
        self._waiting: deque[Waiting] = deque()
        self._waiting_bytes = 0
        self._flying: list[Waiting] = []
        self._unsaid = 0  # dropped since the last line about it
        self._online = False
        #: Events that no monitor has seen because the broker was away for too long, or refused them.
        self.dropped: int = 0
        #: Events that the broker has taken.
        self.sent: int = 0
        self.know(tasks)
        segment.events = info.tasks

    def __repr__(self) -> str:
        return f"<Events tasks={self.tasks} waiting={len(self._waiting)} sent={self.sent} dropped={self.dropped}>"

    def know(self, tasks: Sequence[TaskInfo]) -> None:
        """The program's tasks from now on; numbers stay."""
        self._told = [task.send_events for task in tasks]
        self._ledger.tell_received(self._pen, self._told, self._tell_received)

    # Switching, with Celery's answers

    @property
    def tasks(self) -> bool:
        """Whether events of tasks are sent."""
        return self._segment.events

    def enable(self) -> str:
        """Send events of tasks from now on, in children that run, too. Returns what Celery's worker replies."""
        if self.tasks:
            return "task events already enabled"
        self._segment.events = True
        logger.info("Events of group {task} enabled by remote.")
        return "task events enabled"

    def disable(self) -> str:
        """Send them no more, unless the worker was started with `-E`. Returns what Celery's worker replies."""
        if self._info.tasks or not self.tasks:
            return "task events already disabled"
        self._segment.events = False
        logger.info("Events of group {task} disabled by remote.")
        return "task events disabled"

    # Telling

    def send(self, kind: str, fields: dict[str, Any]) -> None:
        """Tell monitors something of this worker: a message of its own, sent with the next `pump`."""
        text = json.dumps(fields)
        self._own.append(Waiting(kind, self._pen.write(kind.encode(), text[1:-1].encode()), 1))
        if len(self._own) > MOST_OWN:
            self._drop(self._own.pop(0))

    def received(self, raw: bytes, task: int | None) -> None:
        """Tell that a message was received that the compiled scan has declined. Of protocol 1 the child tells it."""
        if self.tasks and task is not None and self._told[task]:
            self._tell_received(raw)

    def _tell_received(self, raw: bytes) -> None:
        fields = received_fields(raw, zone=self._zone)
        if fields is not None:
            self._ledger.add_event(self._pen.write(b"task-received", json.dumps(fields)[1:-1].encode()))

    def heartbeat(self) -> None:
        """A heartbeat as Celery's worker answers the remote command `heartbeat`: with these few fields."""
        self.send("worker-heartbeat", {"freq": 5, **self._info.software})

    def _beat(self) -> None:
        assert self._info.heartbeat_s is not None
        self._tell_state("worker-heartbeat")
        self._timers.set("event-heartbeat", self._info.heartbeat_s, self._beat)

    def _tell_state(self, kind: str) -> None:
        counts = self._counts()
        fields = {
            "freq": self._info.heartbeat_s,
            "active": counts.active,
            "processed": counts.processed,
            "loadavg": [math.ceil(load * 100) / 100 for load in os.getloadavg()],
            **self._info.software,
        }
        self.send(kind, fields)

    # The broker

    def came(self) -> None:
        """The broker is there."""
        if self._info.heartbeat_s is not None:
            self._online = True
            self._tell_state("worker-online")
            self._timers.set("event-heartbeat", self._info.heartbeat_s, self._beat)

    def went(self) -> None:
        """The broker is gone. What it has not confirmed is told again: twice is better than a task that never ends."""
        self._timers.cancel("event-heartbeat")
        flying, self._flying = self._flying, []
        self._own[:0] = [waiting for waiting in flying if waiting.kind != MANY]
        for waiting in reversed([waiting for waiting in flying if waiting.kind == MANY]):
            self._waiting.appendleft(waiting)
            self._waiting_bytes += len(waiting.data)

    def leave(self) -> None:
        """The worker is stopping: it says so before what runs has ended, as Celery's does."""
        if self._online:
            self._online = False
            self._timers.cancel("event-heartbeat")
            self._tell_state("worker-offline")

    @property
    def clean(self) -> bool:
        """Whether everything has been told."""
        return not (self._own or self._waiting or self._flying or self._ledger.untold_events)

    def turn(self, run: Callable[[Callable[[], None]], None]) -> None:
        """Have `pump` run by what sends for the broker, if there is anything to tell."""
        if not self.clean:
            run(self.pump)

    def pump(self) -> None:
        """Take what children have written, and send it if the broker is there and has answered the last message.

        Called right behind the flushes: events wait until results are on their way, for who hears of one may read it.
        """
        if self._ledger.untold_events:
            for data, count in self._ledger.take_events():
                self._wait(Waiting(MANY, data, count))
        if self._flying or self._settler.stream is None:
            return
        self._flying, self._own = self._own, []
        if not self._ledger.result_backlog:
            self._take_waiting()
        if self._flying:
            commands = [self._command(waiting) for waiting in self._flying]
            self._settler.ask(b"".join(commands), len(commands), self._sent)

    def _wait(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        self._waiting_bytes += len(waiting.data)
        while self._waiting_bytes > MOST_WAITING:
            self._drop(self._next())

    def _next(self) -> Waiting:
        waiting = self._waiting.popleft()
        self._waiting_bytes -= len(waiting.data)
        return waiting

    def _drop(self, waiting: Waiting) -> None:
        self.dropped += waiting.count
        self._unsaid += waiting.count

    def _take_waiting(self) -> None:
        size = 0
        while self._waiting and size < MOST_FLYING:
            self._flying.append(self._next())
            size += len(self._flying[-1].data)

    def _command(self, waiting: Waiting) -> bytes:
        message = event_message(
            waiting.data,
            kind=waiting.kind,
            many=waiting.kind == MANY,
            hostname=self._node,
            exchange=self._info.exchange,
            serializer=self._serializer,
        )
        return pack("PUBLISH", self.channel(routing_key(waiting.kind)), message)

    def _sent(self, errors: list[bytes]) -> None:
        flying, self._flying = self._flying, []
        if errors:
            logger.error("Redis refused events: %s. They are dropped.", errors[0].decode("utf-8", "replace"))
            for waiting in flying:
                self._drop(waiting)
            self._unsaid = 0
            return
        self.sent += sum(waiting.count for waiting in flying)
        if self._unsaid:
            logger.warning("%d events were dropped: the broker did not take them in time.", self._unsaid)
            self._unsaid = 0
