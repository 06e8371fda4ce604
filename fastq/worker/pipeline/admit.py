"""Look at messages that are not plain: now, later, or never. Plain Python; `wire/` is the specification."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from fastq import _core, clock
from fastq.errors import EnvelopeError, PeerError
from fastq.program import TaskInfo, Verdict, join_verdict, split_verdict
from fastq.wire.deadletter import DeadLetter
from fastq.wire.envelope import Header, read_header
from fastq.wire.packed import is_packed
from fastq.worker.pipeline.rate import Buckets, ledger_tables
from fastq.worker.revoked import Revoked

logger: logging.Logger = logging.getLogger(__name__)

#: What looks like an id in something that cannot be read: better than nothing for whoever looks for it.
_ID = re.compile(rb'"id":\s*"([^"\\]{1,200})"')
_PACKED_ID = re.compile(rb"\xc4\x10(.{16})", re.DOTALL)

#: Seconds that a message waits for which there was no room beside the rings.
NO_ROOM_S = 5.0

#: Seconds after which a name that nobody knows is looked up again, while the application is loaded again.
SOON_S = 0.2

#: Children that may die over one verdict after the first.
MOST_TRIES = 4


class Admission:
    """Decides about messages that the compiled scan declined, and places verdicts."""

    def __init__(
        self,
        ledger: _core.Ledger,
        *,
        tasks: Sequence[TaskInfo],
        side_prefix: Path,
        dead_key: Callable[[int], bytes],
        node: str = "",
        log_received: bool,
        expecting: Callable[[], bool] = lambda: False,
        buckets: Buckets | None = None,
        revoked: Revoked | None = None,
    ) -> None:
        #: Keeps messages that wait and are not on the broker (broadcasts) until a unix time.
        self.keep: Callable[[int, bytes, float], None] | None = None
        self.buckets: Buckets = Buckets({}) if buckets is None else buckets
        self.revoked: Revoked = Revoked() if revoked is None else revoked
        self._ledger = ledger
        self._expecting = expecting
        #: By number.
        self.tasks: Sequence[TaskInfo] = ()
        self._numbers: dict[str, int] = {}
        self._remember(tasks)
        self._side_prefix = side_prefix
        self._side_count = 0
        self._dead_key, self._node = dead_key, node
        self._log_received = log_received
        #: Messages that ended without their task.
        self.judged: int = 0
        #: Called with each message that is going to be run, now or later, and the number of its task.
        self.received: Callable[[bytes, int | None], None] = lambda _raw, _task: None

    def know(self, tasks: Sequence[TaskInfo]) -> None:
        """The program's tasks from now on; numbers stay."""
        self._remember(tasks)
        self._ledger.know(*ledger_tables(tasks, limited=self.buckets))

    def _remember(self, tasks: Sequence[TaskInfo]) -> None:
        self.tasks = tasks
        self._numbers = {task.name: number for number, task in enumerate(tasks) if not task.gone}

    def admit(self, entry: int, raw: bytes, *, due: bool = False) -> None:
        """Decide about one message. `due`: it has waited for its time already."""
        try:
            header = self._read(raw)
        except EnvelopeError as error:
            self._divert(entry, raw, error)
        except PeerError as error:
            self._refuse(entry, raw, error)
        else:
            try:
                self._decide(entry, raw, header, due=due)
            except OSError as error:
                self._put_off(entry, raw, header, error)

    def _read(self, raw: bytes) -> Header:
        """The header. Of a plain message that is here only because it is too large for a ring, what matters of it:
        reading all of it takes long. Raises PeerError."""
        found = _core.plain_name(raw) if len(raw) > self._ledger.largest else None
        return read_header(raw) if found is None else Header(task=found[0], id=found[1], plain=True)

    def _park(self, entry: int, raw: bytes, at: float, *, task: int | None = None) -> None:
        """`task`: the number of the message's task, if nothing but its time is special about it."""
        if self._ledger.where(entry) is not None:
            self._ledger.park(entry, at, _core.NO_TASK if task is None else task)
        else:
            assert self.keep is not None, "only a broadcast has no place on the broker"
            self.keep(entry, raw, at)

    def _put_off(self, entry: int, raw: bytes, header: Header, error: OSError) -> None:
        # No room for a large message: it stays on the broker, and is tried again when there may be some.
        logger.error(
            "No room for the message %s[%s] in %s: %s. Trying again in %g s.",
            header.task,
            header.id,
            self._side_prefix.parent,
            error.strerror or error,
            NO_ROOM_S,
        )
        self._park(entry, raw, clock.now() + NO_ROOM_S)

    def _decide(self, entry: int, raw: bytes, header: Header, *, due: bool) -> None:
        number = self.number(header)
        if self._log_received and not due:
            which = {"task_name": header.shadow or header.task, "task_id": header.id}
            logger.info("Task %(task_name)s[%(task_id)s] received", which, extra=which)
        if header.task is not None and number is None and self._expecting():
            self._park(entry, raw, clock.now() + SOON_S)
        elif header.task is not None and number is None:
            self.judge(entry, raw, Verdict(kind="unknown", reason=header.task))
        elif header.expires is not None and clock.now() > header.expires:
            self.judge(entry, raw, Verdict(kind="expired", task=number))
        elif (why := self.revoking(header)) is not None:
            self.judge(entry, raw, Verdict(kind="revoked", reason=why, task=number))
        else:
            if not due and header.protocol == 2:
                self.received(raw, number)
            self._go_on(entry, raw, header, number, due=due)

    def _go_on(self, entry: int, raw: bytes, header: Header, number: int | None, *, due: bool) -> None:
        if header.eta is not None and header.eta > clock.now() and not due:
            only_eta = header.protocol == 2 and header.expires is None and limits(header, None) == (0.0, 0.0)
            self._park(entry, raw, header.eta, task=number if only_eta else None)
        elif (at := self.buckets.turn(entry, task=number, now=clock.now())) is not None:
            self._park(entry, raw, at)
        else:
            self._place(entry, raw, header, number)

    def revoking(self, header: Header) -> str | None:
        """None unless this message is revoked; what the log says behind its name: nothing, or the stamp."""
        if header.id in self.revoked:
            return ""
        stamp = self.revoked.by_stamp(header.stamps)
        return None if stamp is None else f" (revoked by header: {stamp})"

    def task_of(self, raw: bytes) -> int | None:
        """The number of a message's task, None if nobody knows its name or it cannot be read."""
        try:
            return self.number(read_header(raw))
        except PeerError:
            return None

    def number(self, header: Header) -> int | None:
        return None if header.task is None else self._numbers.get(header.task)

    def _place(self, entry: int, raw: bytes, header: Header, number: int | None) -> None:
        task = None if number is None else self.tasks[number]
        late = task is not None and task.acks_late
        soft_s, hard_s = limits(header, task)
        payload, flags = self._payload(raw)
        if not (header.plain and flags & _core.SIDE):
            # A child reads a plain one the short way also from its file.
            flags |= _core.ODD
        if header.protocol == 1:
            # What monitors are told of it is in its body, which the child decodes.
            flags |= _core.UNTOLD
        self._ledger.place(
            entry,
            payload,
            task=_core.NO_TASK if number is None else number,
            flags=flags | (_core.LATE if late else 0),
            expires=header.expires or 0.0,
            soft_s=soft_s,
            hard_s=hard_s,
        )

    def count_verdict(self, verdict: Verdict) -> None:
        """One more message that ended in this way."""
        task = "" if verdict.task is None else self.tasks[verdict.task].name
        self._ledger.note_verdict(task.encode(), verdict.kind)

    def judge(self, entry: int, raw: bytes, verdict: Verdict) -> None:
        """Have a child tell result store and application how the engine had to end this message."""
        self.count_verdict(verdict)
        self.buckets.forget(entry)
        self.judged += 1
        self._hand(entry, raw, verdict)

    def judge_again(self, entry: int, payload: bytes) -> bool:
        """The same for a verdict whose child has died over it; False if too many have."""
        verdict, raw = split_verdict(payload)
        if verdict.tries >= MOST_TRIES:
            return False
        self._hand(entry, raw, msgspec.structs.replace(verdict, tries=verdict.tries + 1))
        return True

    def _hand(self, entry: int, raw: bytes, verdict: Verdict) -> None:
        payload, flags = self._payload(join_verdict(verdict, raw))
        if self._ledger.where(entry) is not None:
            # Still to be acknowledged: when the verdict has been carried out, not when a child begins with it.
            flags |= _core.LATE
        task = _core.NO_TASK if verdict.task is None else verdict.task
        self._ledger.place(entry, payload, kind=_core.VERDICT, task=task, flags=flags, first=True)

    @staticmethod
    def name(raw: bytes) -> str:
        """What a log calls a message: task[id], or as much of it as can be read."""
        try:
            header = read_header(raw)
        except PeerError as error:
            return f"a message that cannot be read ({error})"
        return f"{header.shadow or header.task or 'a task'}[{header.id}]"

    def _payload(self, raw: bytes) -> tuple[bytes, int]:
        """What goes into the ring: the message, or the path of a file that holds it (flag SIDE)."""
        if len(raw) <= self._ledger.largest:
            return raw, 0
        self._side_count += 1
        return _core.write_side(str(self._side_prefix), f".t{self._side_count}", raw), _core.SIDE

    def _divert(self, entry: int, raw: bytes, error: PeerError) -> None:
        place = self._ledger.where(entry)
        if place is None:
            logger.error("A broadcast that is no message was dropped: %s: %.200r", error, raw[:200])
            self._ledger.quit(entry)
            return
        key = self._dead_key(place[0])
        guessed = _guess_id(raw)
        named = f" (id {guessed})" if guessed else ""
        logger.error(
            "Not a message%s: %s. It was put aside in the list %s (see `fastq dlq`); %d bytes: %.200r",
            named,
            error,
            key.decode("utf-8", "replace"),
            len(raw),
            raw[:200],
        )
        letter = DeadLetter.of(raw, reason="undecodable", detail=str(error), at=clock.now(), node=self._node)
        self._ledger.requeue(entry, letter.encode(), key)

    def _refuse(self, entry: int, raw: bytes, error: PeerError) -> None:
        self.judge(entry, raw, Verdict(kind="invalid", reason=str(error)))


def _guess_id(raw: bytes) -> str:
    if is_packed(raw):
        bare = _PACKED_ID.search(raw)
        return str(UUID(bytes=bare[1])) if bare else ""
    found = _ID.search(raw)
    return found[1].decode("utf-8", "replace") if found else ""


def limits(header: Header, task: TaskInfo | None) -> tuple[float, float]:
    """(soft, hard) time limits in seconds, 0 for none: the message's, else the task's."""
    soft_s, hard_s = header.soft_limit_s, header.hard_limit_s
    if task is not None:
        soft_s = task.soft_time_limit if soft_s is None else soft_s
        hard_s = task.time_limit if hard_s is None else hard_s
    return soft_s or 0.0, hard_s or 0.0
