"""A plain-Python model of the ledger, and every operation on both at once.

The model is told nothing by the ledger that a child or the broker could not see: it reads the rings, and the commands
of the flushes. After every operation `check` compares whatever can be compared.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from fastq import _core
from tests.core.ledger_lab import PREFIX, STAMP, TASK_VOID, TASKS, Frame, Lab, Position
from tests.core.task_ring import envelope

#: A linger that is never over, in nanoseconds; only batches that are settled whole are told.
NEVER = 10**17

Kind = Literal["early", "late", "unknown", "big"]
End = Literal["finish", "ack", "result", "large", "reject", "requeue"]


class Message(msgspec.Struct, eq=False):
    """A delivery; or, with no position, a verdict on one that had been acknowledged."""

    raw: bytes
    position: Position | None
    #: arriving, odd, held, line, dealt, running, ended, waiting, over
    state: str = "arriving"
    task: int = _core.NO_TASK
    kind: int = _core.TASK
    flags: int = 0
    #: What lies in the ring, and what the child reads: not the same for a side file.
    payload: bytes = b""
    shown: bytes = b""
    entry: int | None = None
    started: bool = False
    settled: bool = False
    told: bool = False
    finished: bool = False
    #: Which flush of results has what it stored; 0: nothing.
    results_in: int = 0
    #: Its end waits for that flush.
    deferred: bool = False

    @property
    def late(self) -> bool:
        return bool(self.flags & _core.LATE)


class Event(msgspec.Struct, frozen=True):
    """Something a child has done that has not been collected."""

    message: Message
    what: Literal["start", "store", "end"]
    outcome: int = 0
    data: bytes = b""


class Child(msgspec.Struct, eq=False):
    """What was dealt to a child and not started, in order; what it runs; what it has done."""

    port: _core.ChildPort
    #: With an event loop: what it has in flight.
    flights: _core.Flights | None = None
    dealt: list[Message] = []
    running: list[Message] = []
    doors: list[_core.ChildPort | _core.Flight] = []
    events: list[Event] = []
    #: Which flush of results has what it stored last.
    stored_in: int = 0


class World:
    """A ledger and its model."""

    def __init__(
        self, folder: Path, *, separate: bool = False, task_bytes: int = 8192, slots: int = 2, berths: int = 0
    ) -> None:
        #: Tasks that a child may have in flight; 0: one at a time.
        self.berths = berths
        self.lab = Lab(folder, slots=slots, separate=separate, task_bytes=task_bytes)
        self.ledger, self.broker, self.separate = self.lab.ledger, self.lab.broker, separate
        self.messages: list[Message] = []
        self.batches: dict[int, list[Message]] = {}
        #: Claims on their way: batch, number, messages that have not arrived.
        self.arriving: list[tuple[int, int, list[Message]]] = []
        self.line: list[Message] = []
        self.odd: list[Message] = []
        self.held: list[Message] = []
        self.waiting: list[tuple[float, Message]] = []
        self.children: dict[int, Child] = {}
        self.rare: list[tuple[Message, bytes]] = []
        self.flying: tuple[bytes, int] | None = None
        self.flying_results: list[tuple[bytes, int]] | None = None
        self.result_flush, self.results_confirmed = 1, 0
        self.expected_results: list[bytes] = []
        self.expected_pushes: list[tuple[bytes, bytes]] = []
        self.given: set[Position] = set()
        self.now = 0.0
        for slot in range(slots):
            self.reopen(slot)

    def close(self) -> None:
        self.lab.close()

    # ------------------------------------------------------------------------ looking

    def see(self) -> None:
        """Find out which of the line have been dealt, and to whom as far as children can see it yet."""
        count = len(self.line) - self.ledger.pending
        assert count >= 0, "the line is longer than it may be"
        dealt, self.line = self.line[:count], self.line[count:]
        for message in dealt:
            message.state = "dealt"
        for slot, child in self.children.items():
            for frame in self.lab.views[slot].look():
                message = self._message_of(frame)
                assert message.state == "dealt"
                assert all(message not in other.dealt for other in self.children.values()), "dealt twice"
                assert frame.kind in (message.kind, TASK_VOID)
                assert frame.flags == message.flags
                message.entry = frame.entry
                child.dealt.append(message)

    def _message_of(self, frame: Frame) -> Message:
        [message] = [m for m in self.messages if m.state == "dealt" and m.payload == frame.payload]
        assert frame.position == (message.position or (0, 0))
        return message

    def check(self) -> None:
        """Everything that can be seen agrees."""
        ledger = self.ledger
        arrived = [m for m in self.messages if m.state != "arriving"]
        alive = [m for m in arrived if not (m.finished and m.told)]
        assert ledger.taken == sum(m.position is not None for m in arrived)
        assert ledger.settled == sum(m.settled for m in arrived)
        assert ledger.size == len(alive)
        assert (ledger.pending, ledger.waiting) == (len(self.line), len(self.waiting))
        assert ledger.held == len(alive) - len(self.waiting)
        assert ledger.next_due() == min((at for at, _ in self.waiting), default=None)
        assert ledger.unstarted() == sum(m.state == "dealt" for m in self.messages)
        for view in self.lab.views.values():
            view.check_unconfirmed()
        self._check_restorable()
        self._check_running()

    def _check_running(self) -> None:
        """What runs is known to the engine, and what may have killed a worker to whoever restores."""
        running = [(m.entry, m.kind, m.task) for child in self.children.values() for m in child.running]
        found = [tuple(fact[1:4]) for slot in self.children for fact in self.ledger.all_running(slot)]
        assert sorted(found) == sorted(running)
        suspects = [m for child in self.children.values() for m in child.running if m.late and m.kind == _core.TASK]
        if self.berths:
            assert sorted((n, place) for _key, n, place in self.lab.segment.suspects()) == sorted(
                m.position or (0, 0) for m in suspects
            )

    def _check_restorable(self) -> None:
        """Whoever restores after a crash now learns which early tasks have been started, of those still claimed."""
        found = {(number, place) for _key, number, place in self.lab.segment.started_unconfirmed()}
        started = {m.position for m in self.messages if m.started and not m.late and m.kind == _core.TASK}
        assert found <= started, "a task that was not started would be dropped"
        claimed = {(n, p) for n, claim in self.broker.claims.items() for p, raw in enumerate(claim) if raw is not None}
        assert found & claimed == started & claimed, "a started task would be run again"

    # ------------------------------------------------------------------------ intake

    def claim(self, kinds: list[Kind]) -> None:
        """The broker has moved messages; they arrive later."""
        made = [self._make(kind) for kind in kinds]
        batch, number = self.lab.claim([message.raw for message in made])
        for place, message in enumerate(made):
            message.position = (number, place)
        self.batches[number] = made
        self.arriving.append((batch, number, list(made)))

    def _make(self, kind: Kind) -> Message:
        number = len(self.messages)
        task = {"early": 0, "late": 1, "unknown": None, "big": 0}[kind]
        name = "t.unknown" if task is None else TASKS[task].decode()
        padding = "x" * (self.lab.task_bytes // 4 if kind == "big" else number * 7 % 90)
        raw = envelope(name, (padding,), task_id=f"id-{number:06d}")
        plain = kind in ("early", "late") and len(raw) < self.lab.task_bytes // 4 and _core.scan(raw) is not None
        message = Message(raw=raw, position=None, task=_core.NO_TASK if task is None else task, shown=raw, payload=raw)
        message.flags = _core.LATE if kind == "late" else 0
        message.state = "arriving"
        message.entry = None if plain else -1
        self.messages.append(message)
        return message

    def arrive(self, count: int) -> None:
        """Up to `count` messages of the oldest claim arrive; with the last one the claim's reply is complete."""
        if not self.arriving:
            return
        batch, number, left = self.arriving[0]
        for message in left[:count]:
            self.ledger.take_one(batch, message.raw)
            if message.entry is None:
                message.state = "line"
                self.line.append(message)
            else:
                message.state = "odd"
                self.odd.append(message)
        del left[:count]
        if not left:
            self.arriving.pop(0)
            assert self.ledger.close_batch(batch) == len(self.batches[number])
        self.see()

    def take_odd(self) -> None:
        """Messages that are not plain come into our hands."""
        found, expected = self.ledger.take_odd(), self.odd
        self.odd = []
        assert [raw for _entry, raw in found] == [message.raw for message in expected]
        for (entry, _raw), message in zip(found, expected, strict=True):
            assert self.ledger.where(entry) == (0, *(message.position or ()))
            self._hold(message, entry)

    def _hold(self, message: Message, entry: int) -> None:
        message.entry, message.state = entry, "held"
        self.held.append(message)

    # ------------------------------------------------------------------------ what becomes of a held message

    def place(self, which: int, *, late: bool, first: bool = False, side: bool = False) -> None:
        """For the children after all."""
        message = self._let_go(which)
        flags = _core.ODD | (_core.LATE if late or message.position is None else 0)
        task = 0 if message.task == _core.NO_TASK else message.task
        if side or len(message.raw) > self.ledger.largest:
            payload, flags = self.lab.side_file(message.raw), flags | _core.SIDE
        else:
            payload = message.raw
        message.shown = message.raw
        self._place(message, payload, kind=_core.TASK, task=task, flags=flags, first=first)

    def judge(self, which: int) -> None:
        """A verdict, before all others."""
        message = self._let_go(which)
        said = b"verdict on " + message.raw[:200] + b"%d" % self.messages.index(message)
        message.shown = said
        self._place(message, said, kind=_core.VERDICT, task=_core.NO_TASK, flags=_core.LATE, first=True)

    def _place(self, message: Message, payload: bytes, *, kind: int, task: int, flags: int, first: bool) -> None:
        assert message.entry is not None
        self.ledger.place(message.entry, payload, kind=kind, task=task, flags=flags, first=first)
        message.payload, message.kind, message.task, message.flags = payload, kind, task, flags
        message.state, message.started = "line", False
        self.line.insert(0 if first else len(self.line), message)

    def settle(self, which: int) -> None:
        """Over, without a child."""
        message = self._let_go(which)
        assert message.entry is not None
        self.ledger.settle(message.entry)
        message.finished, message.state = True, "over"
        self._settle(message)

    def requeue(self, which: int, key: bytes | None) -> None:
        """Behind a queue again. What has no position cannot be."""
        message = self._let_go(which)
        assert message.entry is not None
        self.ledger.requeue(message.entry, b"again " + message.raw, key)
        message.finished, message.state = True, "over"
        self._requeued(message, b"again " + message.raw, key or b"queue")

    def give(self, which: int) -> None:
        """Back to the front of its queue, by somebody else's transaction."""
        message = self._let_go(which)
        assert message.entry is not None
        assert message.position is not None
        self.broker.bury(message.position)
        self.given.add(message.position)
        self.ledger.quit(message.entry)
        message.finished = message.settled = message.told = True
        message.state = "over"

    def park(self, which: int, after: int) -> None:
        """Until its time."""
        message = self._let_go(which)
        assert message.entry is not None
        self.ledger.park(message.entry, self.now + after)
        message.state = "waiting"
        self.waiting.append((self.now + after, message))

    def due(self, passed: int, limit: int) -> None:
        """Time passes; what is due comes into our hands again, the earliest first."""
        self.now += passed
        expected = sorted((pair for pair in self.waiting if pair[0] <= self.now), key=lambda pair: pair[0])[:limit]
        found = self.ledger.take_due(self.now, limit)
        places = [m.position for _at, m in expected if m.position is not None]
        assert [(claim, at) for _entry, claim, at in found] == [(PREFIX + b"%d" % n, -p - 1) for n, p in places]
        for (entry, _claim, _at), pair in zip(found, expected, strict=True):
            self.waiting.remove(pair)
            self._hold(pair[1], entry)

    def withdraw(self, limit: int) -> None:
        """What no child has comes into our hands: pending ones in order, then waiting ones. Verdicts stay."""
        pending = [message for message in self.line if message.kind == _core.TASK and message.position]
        expected = [*pending, *(m for _at, m in sorted(self.waiting, key=lambda pair: pair[0]))][:limit]
        found = self.ledger.withdraw(limit)
        assert [place for _entry, *place in found] == [[0, *(m.position or ())] for m in expected]
        self.line = [message for message in self.line if message not in expected]
        self.waiting = [pair for pair in self.waiting if pair[1] not in expected]
        for (entry, *_place), message in zip(found, expected, strict=True):
            self._hold(message, entry)
        self.see()

    def _let_go(self, which: int) -> Message:
        return self.held.pop(which % len(self.held))

    # ------------------------------------------------------------------------ children

    def deal(self) -> None:
        assert self.ledger.deal() == self.ledger.pending
        self.see()

    def reopen(self, slot: int) -> None:
        """A new child, if nothing of the last one is needed any more."""
        if slot not in self.children and self.ledger.reusable(slot):
            port = self.lab.open_child(slot, berths=self.berths)
            self.children[slot] = Child(port, _core.Flights(port, self.berths) if self.berths else None)

    def start(self, slot: int) -> None:
        """The child takes its next frame, passing over what was taken back; with an event loop, all that it may."""
        child = self.children[slot]
        if child.flights is not None:
            for flight in child.flights.take():
                self._started(child, flight)
            return
        if child.running:
            return
        while child.port.wait(0.0) == 1:
            if child.port.start():
                self._started(child, child.port)
                return
        assert not child.dealt

    def _started(self, child: Child, door: _core.ChildPort | _core.Flight) -> None:
        message = child.dealt.pop(0)
        assert message.state == "dealt"
        assert (door.kind, door.task, door.flags) == (message.kind, message.task, message.flags)
        assert door.payload() == message.shown
        message.state, message.started = "running", True
        child.running.append(message)
        child.doors.append(door)
        child.events.append(Event(message, "start"))

    def store(self, slot: int, which: int = 0) -> None:
        """A result in the middle of a task."""
        child = self.children[slot]
        if child.running:
            which %= len(child.running)
            self._make_room(slot, 100)
            child.doors[which].store(1, data := self._result())
            child.events.append(Event(child.running[which], "store", data=data))

    def end(self, slot: int, how: End, which: int = 0) -> None:
        """The child ends a task. An early acknowledged one cannot change what becomes of its message."""
        child = self.children[slot]
        if not child.running:
            return
        which %= len(child.running)
        message, door = child.running[which], child.doors[which]
        data = {"result": self._result, "large": lambda: self._result(3000)}.get(how, lambda: b"")()
        self._make_room(slot, 1200 if how == "requeue" else 200)
        if how == "finish" and not message.late:
            door.finish()
            child.events.append(Event(message, "end"))
        else:
            outcome = {"reject": _core.REJECT, "requeue": _core.REQUEUE}.get(how, _core.ACK)
            data = b"again %d " % self.messages.index(message) + message.raw[:1000] if how == "requeue" else data
            door.outcome(outcome, 1 if data else 0, data)
            child.events.append(Event(message, "end", outcome, data))
        del child.running[which], child.doors[which]
        message.state = "ended"

    def _result(self, size: int = 20) -> bytes:
        value = b"result %d " % len(self.expected_results) + b"r" * size
        self.expected_results.append(value)
        return b"*2\r\n$3\r\nPUT\r\n$%d\r\n%b\r\n" % (len(value), value)

    def _make_room(self, slot: int, size: int) -> None:
        # There is nobody else who could collect while the child waits.
        if self.lab.views[slot].result_room < 2 * size:
            self.collect()

    def recall(self, slot: int) -> None:
        child = self.children[slot]
        count = self.ledger.recall(slot)
        self._taken_back(child, count)

    def dismiss(self, slot: int) -> None:
        child = self.children[slot]
        count = self.ledger.dismiss(slot)
        self._taken_back(child, count)
        assert child.port.stopping

    def _taken_back(self, child: Child, count: int) -> None:
        # Taking back publishes first, and what comes back is pending: count as dealt what was dealt before.
        back_in_line = self.ledger.pending
        del back_in_line
        self._see_before(count)
        assert len(child.dealt) == count
        for message in child.dealt:
            message.state = "line"
        self.line[:0] = child.dealt
        child.dealt = []
        self.see()

    def _see_before(self, taken_back: int) -> None:
        dealt = len(self.line) - (self.ledger.pending - taken_back)
        for message in self.line[:dealt]:
            message.state = "dealt"
        self.line = self.line[dealt:]
        for slot, child in self.children.items():
            for frame in self.lab.views[slot].look():
                message = self._message_of(frame)
                message.entry = frame.entry
                child.dealt.append(message)

    def bury(self, slot: int) -> None:
        """The child is dead: what it wrote counts, what it ran is returned once, the rest goes to others."""
        child = self.children[slot]
        before = self.ledger.pending
        found = self.ledger.bury(slot)
        self._see_before(self.ledger.pending - before)
        del self.children[slot]
        for message in child.dealt:
            message.state = "line"
        self.line[:0] = child.dealt
        self._collected(child)
        for fact, victim in zip(found, child.running, strict=True):
            self._lost(fact, victim)

    def _lost(self, found: tuple[int, int, int, int, bytes, int], victim: Message) -> None:
        entry, kind, task, flags, payload, began_ns = found
        assert (kind, task, flags & ~_core.ODD, payload) == (
            victim.kind,
            victim.task,
            victim.flags & ~_core.ODD,
            victim.shown,
        )
        assert began_ns > 0
        if victim.settled:
            victim.finished, victim.state = True, "over"
            orphan = Message(raw=b"orphan %d of " % len(self.messages) + victim.raw, position=None, shown=victim.raw)
            self.messages.append(orphan)
            assert self.ledger.where(entry) is None
            self._hold(orphan, entry)
        else:
            self._hold(victim, entry)

    # ------------------------------------------------------------------------ collect and settle

    def collect(self) -> None:
        """Read the children's doings; give back at once what they want requeued, as the engine does."""
        found = self.ledger.collect()
        for child in self.children.values():
            self._collected(child)
        assert sorted(message for _entry, message in found) == sorted(data for _message, data in self.rare)
        for entry, data in found:
            message = next(m for m, d in self.rare if d == data)
            assert entry == message.entry
            self.ledger.requeue(entry, data)
            self._requeued(message, data, b"queue")
        self.rare = []

    def _collected(self, child: Child) -> None:
        for event in child.events:
            message = event.message
            if event.what == "start":
                message.results_in = 0
                if not message.late:
                    self._settle(message)
            elif event.outcome == _core.REQUEUE:
                if not message.settled and message.position:
                    self.rare.append((message, event.data))
            elif event.data:
                message.results_in = child.stored_in = self.result_flush
            if event.what == "end":
                message.finished, message.state = True, "over"
            over = event.outcome in (_core.ACK, _core.REJECT) or (event.outcome and message.position is None)
            if self.berths:
                # Of those in flight beside each other, each waits for what any of them has stored.
                message.results_in = child.stored_in
            if over and not message.settled:
                message.deferred = self.separate and message.results_in > self.results_confirmed
                if not message.deferred:
                    self._settle(message)
        child.events = []

    def _settle(self, message: Message) -> None:
        if not message.settled:
            message.settled = True
            message.told = message.position is None

    def _requeued(self, message: Message, data: bytes, key: bytes) -> None:
        assert message.position is not None
        self.expected_pushes.append((key, data))
        message.settled = message.told = True

    def flush(self, linger_ns: int) -> None:
        """Tell the broker; `confirm` is when it has been told."""
        if self.flying is not None:
            return
        for number, batch in list(self.batches.items()):
            whole = all(m.settled for m in batch) and all(number != n for _batch, n, _left in self.arriving)
            for message in batch:
                message.told = message.told or (message.settled and (whole or not linger_ns))
            if whole:
                del self.batches[number]
        self.flying = self.ledger.flush(STAMP, linger_ns)

    def confirm(self) -> None:
        if self.flying is not None:
            self.broker.apply(*self.flying)
            self.flying = None
            self.ledger.confirm()

    def flush_results(self) -> None:
        """Results go their own way; what waits for them is settled when they are stored."""
        if self.separate and self.flying_results is None:
            self.flying_results = self.ledger.flush_results()
            if self.flying_results is not None:
                self.result_flush += 1

    def confirm_results(self) -> None:
        if self.flying_results is None:
            return
        for part in self.flying_results:
            self.broker.apply_results(*part)
        self.flying_results = None
        self.ledger.confirm_results()
        self.results_confirmed = self.result_flush - 1
        for message in self.messages:
            if message.deferred and message.results_in <= self.results_confirmed:
                self._settle(message)

    # ------------------------------------------------------------------------ the end

    def drain(self) -> None:
        """Let everything come to its end."""
        for _ in range(300):
            flying = self.flying is not None or self.flying_results is not None
            if not (self.ledger.size or self.ledger.untold or self.arriving or flying):
                break
            self._drain_once()
            self.check()
        else:
            raise AssertionError(f"stuck with {self.ledger.size} entries: {self.stuck()}")

    def stuck(self) -> list[Message]:
        return [m for m in self.messages if not (m.finished and m.told)]

    def _drain_once(self) -> None:
        self.arrive(100)
        self.take_odd()
        self.due(10**9, 1000)
        while self.held:
            if self.held[0].position is None:
                self.judge(0)
            else:
                self.place(0, late=True)
        for slot in range(self.lab.slots):
            if slot in self.children and self.children[slot].port.stopping and not self.children[slot].running:
                self.bury(slot)
            self.reopen(slot)
        self.deal()
        for slot in self.children:
            self.start(slot)
            self.end(slot, "result")
        self.collect()
        self.flush_results()
        self.confirm_results()
        self.flush(0)
        self.confirm()

    def check_end(self) -> None:
        """Nothing is lost, nothing was told twice, nothing is left."""
        ledger, broker = self.ledger, self.broker
        everything = {m.position for m in self.messages if m.position is not None}
        assert len(broker.told) == len(set(broker.told))
        assert set(broker.told) | self.given == everything
        assert not set(broker.told) & self.given
        assert (broker.claims, broker.index) == ({}, set())
        assert sorted(words[1] for words in broker.results) == sorted(self.expected_results)
        pushed = [(key, data) for key, queue in broker.queues.items() for data in queue]
        assert sorted(pushed) == sorted(self.expected_pushes)
        assert (ledger.size, ledger.held, ledger.pending, ledger.waiting) == (0, 0, 0, 0)
        assert (ledger.unstarted(), ledger.busy(), ledger.result_backlog, ledger.urgent) == (0, 0, 0, False)
        assert (ledger.flush(STAMP), ledger.untold, ledger.batch_numbers()) == (None, False, [])
        assert self.lab.segment.started_unconfirmed() == []
        assert not os.listdir(self.lab.folder), "side files are left"
