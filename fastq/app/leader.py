"""Send what is due in a native application: campaign for the lead, keep it, fire, and outlive outages.

Every worker of an application with a schedule has such a process; one of them leads, the others ask once a second
whether they may. What may go wrong goes wrong in between two scripts on the server (`fastq.transport.redis.schedule`),
each of which leaves everything in order: whoever leads next goes on with what the server remembers.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID, uuid5

import redis

from fastq import clock
from fastq.schedules import Pending, pending

if TYPE_CHECKING:
    from typing_extensions import Self

    from fastq.app.schedule import Entry
    from fastq.transport.redis.locks import Lock
    from fastq.transport.redis.schedule import ScheduleStore

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds between renewals: three of them fit into the life of a lead.
RENEW_S: Final = 1.5

#: Seconds after which a process that does not lead asks again, or earlier, when the lead it saw ends.
ASK_S: Final = 1.0

#: Seconds before a server that cannot be reached, or refuses a message, is tried again; doubled up to the second.
FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 10.0

#: Seconds between two lines about the same trouble.
SAY_AGAIN_S: Final = 60.0

#: The namespace of task ids: whoever knows application, entry and due time knows the id.
_IDS: Final = UUID("6f7a6d32-5f0c-5d0b-9d0e-7c1f3a1f6a53")

#: From an entry and a due time to the list on the broker, the message, and the lock of a unique task.
Compose: TypeAlias = Callable[["Entry", int], "tuple[str, bytes | str, Lock | None]"]


def firing_id(app: str, entry: str, due_ms: int) -> str:
    """The task id of one due time of an entry: the same wherever and whenever it is made."""
    return str(uuid5(_IDS, f"{app}\n{entry}\n{due_ms}"))


class Lost(Exception):
    """Another process has the lead, or nobody."""


class Row:
    """An entry, what was done of it, and what is to be done."""

    def __init__(self, entry: Entry, *, last_ms: int) -> None:
        self.entry: Entry = entry
        self.last_ms: int = last_ms
        self.backlog: list[int] = []
        #: Whether the backlog is only recorded: it was missed, and the entry says to leave it out.
        self.skipping: bool = False
        self.pause_s: float = 0.0
        self.not_before_s: float = 0.0
        self.next_ms = entry.schedule.after(last_ms)

    def __repr__(self) -> str:
        return f"<Row {self.entry.name} last={self.last_ms} next={self.next_ms}>"

    def plan(self, now_ms: int) -> Pending | None:
        """Fill the backlog, if something is due and the last one has been dealt with."""
        if self.backlog or self.next_ms is None or self.next_ms > now_ms:
            return None
        found = pending(self.entry.schedule, last_ms=self.last_ms, now_ms=now_ms, missed=self.entry.missed)
        if found is not None:
            self.skipping = not found.send
            self.backlog = list(found.send) or [found.newest_ms]
        return found

    def done(self, due_ms: int) -> None:
        """This due time, and all before it, need nothing more."""
        self.last_ms = due_ms
        self.backlog = [due for due in self.backlog if due > due_ms]
        self.next_ms = self.backlog[0] if self.backlog else self.entry.schedule.after(due_ms)
        self.pause_s = self.not_before_s = 0.0

    def put_off(self, now_s: float) -> None:
        """Try again later."""
        self.pause_s = min(max(FIRST_PAUSE_S, 2 * self.pause_s), LAST_PAUSE_S)
        self.not_before_s = now_s + self.pause_s


class Scheduler:
    """The process that sends what is due, or stands by."""

    def __init__(
        self, app: str, entries: Mapping[str, Entry], *, store: ScheduleStore, compose: Compose, who: str
    ) -> None:
        self._app, self._entries, self._store, self._compose = app, entries, store, compose
        self._who = who
        self._lead = ""
        self._holder = ""
        self._rows: list[Row] = []
        self._remembered: dict[str, int] = {}
        self._renew_at_s = 0.0
        self._server_ms, self._server_at_s = 0, 0.0
        self._trouble = Trouble()

    def __repr__(self) -> str:
        return f"<Scheduler of {self._app}, lead={self._lead!r}>"

    def run(self, until: UntilSignal) -> None:
        """Work until a signal comes; then give the lead back."""
        while not until.stopping:
            until.wait(self.step())
        self.leave()

    def step(self) -> float:
        """Do what can be done now; seconds after which to come again."""
        try:
            pause_s = self._work() if self._lead else self._stand_by()
        except Lost:
            # The server may have forgotten everything, and nobody else has led since.
            self._remembered = {row.entry.name: row.last_ms for row in self._rows}
            self._lead, self._rows = "", []
            logger.warning("Scheduler: the lead of %s is lost; this process stands by.", self._app)
            return 0.0
        except redis.RedisError as error:
            return self._trouble.met(error)
        self._trouble.over()
        return pause_s

    def leave(self) -> None:
        """Let another process lead at once."""
        lead, self._lead = self._lead, ""
        if lead:
            try:
                self._store.leave(lead)
            except redis.RedisError as error:
                logger.info("Scheduler: the lead of %s was not given back, it expires: %s", self._app, error)

    # Standing by

    def _stand_by(self) -> float:
        answer = self._store.campaign(self._who)
        self._know_time(answer.now_ms)
        if not answer.lead:
            self._remembered = {}
            if answer.holder != self._holder:
                self._holder = answer.holder
                logger.info("Scheduler: %s leads %s; this process stands by.", answer.holder, self._app)
            return min(ASK_S, max(answer.left_ms, 1) / 1000)
        self._enter(answer.lead)
        return 0.0

    def _enter(self, lead: str) -> None:
        specs = {name: entry.schedule.spec for name, entry in self._entries.items()}
        states = self._store.enter(lead, specs, remembered=self._remembered)
        if states is None:
            raise Lost
        self._lead = self._holder = lead
        self._renew_at_s = clock.monotonic() + RENEW_S
        self._rows = [Row(entry, last_ms=states[name].last_ms) for name, entry in self._entries.items()]
        logger.info("Scheduler: this process leads %s (term %s): %d entries.", self._app, lead, len(self._rows))

    # Leading

    def _work(self) -> float:
        if clock.monotonic() >= self._renew_at_s:
            self._renew()
        now_ms = self._now_ms()
        for row in self._rows:
            self._explain(row, row.plan(now_ms))
            while row.backlog and clock.monotonic() >= row.not_before_s:
                if clock.monotonic() >= self._renew_at_s:
                    return 0.0
                self._fire(row, row.backlog[0])
        return self._pause_s()

    def _renew(self) -> None:
        now_ms = self._store.renew(self._lead)
        if now_ms is None:
            raise Lost
        self._know_time(now_ms)
        self._renew_at_s = clock.monotonic() + RENEW_S

    def _explain(self, row: Row, found: Pending | None) -> None:
        if found is None or not found.left_out:
            return
        entry, since = row.entry, _shown(row.last_ms)
        if found.send:
            logger.warning(
                "Scheduler: %s was missed since %s; sending %d (missed=%r).",
                *(entry.name, since, len(found.send), entry.missed),
            )
        else:
            logger.warning("Scheduler: %s was missed since %s; skipped (missed=%r).", entry.name, since, entry.missed)

    def _fire(self, row: Row, due_ms: int) -> None:
        entry = row.entry
        queue, message, lock = ("", b"", None) if row.skipping else self._composed(entry, due_ms)
        task_id = "" if lock is None else firing_id(self._app, entry.name, due_ms)
        try:
            answer = self._store.fire(
                self._lead,
                entry.name,
                due_ms=due_ms,
                spec=entry.schedule.spec,
                queue=queue,
                message=message,
                lock=lock,
                task_id=task_id,
            )
        except redis.ResponseError as error:
            if isinstance(error, redis.exceptions.ReadOnlyError):
                raise
            self._refused(row, error)
            return
        if answer == "lost":
            raise Lost
        row.done(due_ms)
        if answer == "held":
            logger.info("Scheduler: %s is left out: the task before it waits or runs, and is unique.", entry.name)
        elif answer == "sent" and message:
            self._tell(entry, due_ms)

    def _composed(self, entry: Entry, due_ms: int) -> tuple[str, bytes | str, Lock | None]:
        try:
            return self._compose(entry, due_ms)
        except Exception:
            # Another try would end the same way: this due time is recorded, and nothing is sent.
            logger.exception("Scheduler: no message can be made for %s (%s).", entry.name, entry.task)
            return "", b"", None

    def _refused(self, row: Row, error: redis.ResponseError) -> None:
        """The server takes no message, or not this one: memory is full, or the queue's key is no list."""
        if not row.pause_s:
            logger.error("Scheduler: %s is refused, and tried again: %s", row.entry.name, error)
        row.put_off(clock.monotonic())

    def _tell(self, entry: Entry, due_ms: int) -> None:
        late_s = max(0, self._now_ms() - due_ms) / 1000
        logger.info(
            "Scheduler: Sending due task %s (%s) id=%s due=%s late=%.3fs",
            *(entry.name, entry.task, firing_id(self._app, entry.name, due_ms), _shown(due_ms), late_s),
        )

    # Time

    def _know_time(self, now_ms: int) -> None:
        self._server_ms, self._server_at_s = now_ms, clock.monotonic()

    def _now_ms(self) -> int:
        """The server's time, never ahead of it: what the answer took on its way is missing."""
        return self._server_ms + int((clock.monotonic() - self._server_at_s) * 1000)

    def _pause_s(self) -> float:
        now_s, now_ms = clock.monotonic(), self._now_ms()
        moments_s = [self._renew_at_s - now_s]
        for row in self._rows:
            if row.backlog:
                moments_s.append(row.not_before_s - now_s)
            elif row.next_ms is not None:
                moments_s.append((row.next_ms - now_ms) / 1000)
        return max(0.0, min(moments_s))


class Trouble:
    """A server that does not answer: tried again with growing pauses, told once and then once a minute."""

    def __init__(self) -> None:
        self._pause_s = 0.0
        self._since_s = self._said_s = 0.0

    def met(self, error: Exception) -> float:
        """Note it; seconds to wait."""
        now_s = clock.monotonic()
        first = not self._pause_s
        if first:
            self._since_s = now_s
        if first or now_s - self._said_s >= SAY_AGAIN_S:
            self._said_s = now_s
            logger.error("Scheduler: the broker cannot be asked, nothing is sent; trying again: %s", error)
        self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LAST_PAUSE_S)
        return self._pause_s * (0.5 + clock.random_fraction() / 2)

    def over(self) -> None:
        """It answered."""
        if self._pause_s:
            logger.info("Scheduler: the broker answers again after %.1f s.", clock.monotonic() - self._since_s)
        self._pause_s = 0.0


class UntilSignal:
    """Waiting that SIGTERM and SIGINT end. In the main thread only."""

    def __init__(self) -> None:
        self.stopping: bool = False

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {
            number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)
        }
        self._fd_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_exc: object) -> None:
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or at a signal."""
        if select.select([self._reader], [], [], seconds)[0]:
            os.read(self._reader, 4096)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True


def _shown(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, timezone.utc).isoformat(timespec="milliseconds")
