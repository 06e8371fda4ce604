"""A ledger with its rings, children and a broker, in one process: what a model of it needs to see and to do."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple

from fastq import _core
from tests.core.task_ring import FRAME, PAGE, RESULT_HEAD, RESULT_TAIL, TASK_HEAD, TASK_PAD, commands

TASK_VOID = 3
TASK_COUNT, ACKED_HEAD, ACKED_COUNT = 8, 16, 24

#: FASTQ_FAST=0 is a supported way of running everything; then no message is plain.
FAST = os.environ.get("FASTQ_FAST", "1") != "0"

EARLY, LATE_TASK = 0, 1
TASKS = [b"t.early", b"t.late"]
PREFIX = b"claim:"
STAMP = b"*1\r\n$4\r\nPING\r\n"

#: (claim list's number, position).
Position = tuple[int, int]


class Frame(NamedTuple):
    """One frame of a task ring."""

    number: int
    at: int
    size: int
    kind: int
    flags: int
    entry: int
    task: int
    position: Position
    payload: bytes


class RingView:
    """What lies in the task ring of one slot, read from its memory."""

    def __init__(self, memory: mmap.mmap, *, slot: int, task_bytes: int, result_bytes: int) -> None:
        self.memory = memory
        self.task_bytes, self.result_bytes = task_bytes, result_bytes
        self.words = PAGE + slot * (PAGE + task_bytes + result_bytes)
        self.ring = self.words + PAGE
        self.frames: list[Frame] = []
        self._read = 0

    def word(self, offset: int) -> int:
        (value,) = struct.unpack_from("<Q", self.memory, self.words + offset)
        return int(value)

    def look(self) -> list[Frame]:
        """Frames written since the last look."""
        head, found = self.word(TASK_HEAD), []
        assert head - self.word(ACKED_HEAD) <= self.task_bytes, "the ring was overrun"
        while self._read < head:
            frame = self._frame(self._read)
            if frame.kind != TASK_PAD:
                found.append(frame)
            self._read += frame.size
        assert self._read == head, "the head is not where the frames end"
        self.frames += found
        return found

    def _frame(self, at: int) -> Frame:
        place = at % self.task_bytes
        if self.task_bytes - place < FRAME.size or self._kind(place) == TASK_PAD:
            (size,) = struct.unpack_from("<I", self.memory, self.ring + place)
            assert (self._kind(place), size) == (TASK_PAD, self.task_bytes - place)
            return Frame(-1, at, size, TASK_PAD, 0, 0, 0, (0, 0), b"")
        fields = FRAME.unpack_from(self.memory, self.ring + place)
        size, kind, flags, entry, task, _key, claim_pos, claim_n = fields[:8]
        assert size % 8 == 0
        assert place + size <= self.task_bytes, "a frame wraps"
        start = self.ring + place + FRAME.size
        payload = self.memory[start : start + fields[15]]
        return Frame(len(self.frames), at, size, kind, flags, entry, task, (claim_n, claim_pos), payload)

    def _kind(self, place: int) -> int:
        (kind,) = struct.unpack_from("<H", self.memory, self.ring + place + 4)
        return int(kind)

    def check_unconfirmed(self) -> None:
        """No frame whose settlement has not been confirmed has been touched, but for being marked void."""
        first = self.word(ACKED_HEAD)
        for frame in self.frames:
            if frame.at >= first:
                place = self.ring + frame.at % self.task_bytes
                size, kind = struct.unpack_from("<IH", self.memory, place)
                assert size == frame.size
                assert kind in (frame.kind, TASK_VOID)
                start = place + FRAME.size
                assert self.memory[start : start + len(frame.payload)] == frame.payload

    @property
    def result_room(self) -> int:
        """Bytes that the result ring takes without waiting; half of it may be lost to a pad."""
        return self.result_bytes - (self.word(RESULT_HEAD) - self.word(RESULT_TAIL))


class Lab:
    """A segment, a ledger over it, and a broker that believes what the ledger tells it."""

    def __init__(
        self, folder: Path, *, slots: int = 2, task_bytes: int = 8192, result_bytes: int = 4096, separate: bool = False
    ) -> None:
        self.folder, self.slots = folder, slots
        self.task_bytes, self.result_bytes = task_bytes, result_bytes
        self.memory = mmap.mmap(-1, _core.Segment.size_of(slots, task_bytes, result_bytes))
        self.segment = _core.Segment.create(
            self.memory, slots=slots, task_bytes=task_bytes, result_bytes=result_bytes, worker=b"lab"
        )
        self.ledger = _core.Ledger(self.segment, list(TASKS), [False, True], [(0.0, 0.0), (0.0, 0.0)])
        self.ledger.separate_results = separate
        self.ledger.add_key(b"queue", PREFIX, b"index")
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        self.views: dict[int, RingView] = {}
        self.broker = Broker()
        self._sides = 0

    def close(self) -> None:
        os.close(self.eventfd)

    def open_child(self, slot: int, *, berths: int = 0) -> _core.ChildPort:
        """A fresh child in a free slot, ready."""
        self.ledger.open_child(slot, berths)
        self.views[slot] = RingView(self.memory, slot=slot, task_bytes=self.task_bytes, result_bytes=self.result_bytes)
        port = _core.ChildPort(self.segment, slot, self.eventfd, str(self.folder / "side"))
        port.ready(1000 + slot)
        return port

    def claim(self, messages: list[bytes], *, key: int = 0) -> tuple[int, int]:
        """The broker moves messages into a new claim list: (batch, its number). They have not arrived yet."""
        batch, number = self.ledger.open_batch(key, len(messages))
        self.broker.claims[number] = list(messages)
        self.broker.index.add(number)
        return batch, number

    def take(self, messages: list[bytes], *, key: int = 0) -> int:
        """Claim, receive, close. The claim list's number."""
        batch, number = self.claim(messages, key=key)
        for message in messages:
            self.ledger.take_one(batch, message)
        self.ledger.close_batch(batch)
        return number

    def side_file(self, payload: bytes) -> bytes:
        """A file that holds a payload; its path is the frame's."""
        self._sides += 1
        path = self.folder / f"t{self._sides}"
        path.write_bytes(payload)
        return str(path).encode()

    def flush(self, linger_ns: int = 0) -> bool:
        """Flush, apply, confirm. False if there was nothing to tell."""
        found = self.ledger.flush(STAMP, linger_ns)
        if found is None:
            return False
        self.broker.apply(*found)
        self.ledger.confirm()
        return True

    def flush_results(self) -> bool:
        """The same for results that go elsewhere."""
        found = self.ledger.flush_results()
        if found is None:
            return False
        for part in found:
            self.broker.apply_results(*part)
        self.ledger.confirm_results()
        return True


class Broker:
    """Claim lists by number, in claim order; a settled message is None. Everything is told once, or it is a bug."""

    def __init__(self) -> None:
        self.claims: dict[int, list[bytes | None]] = {}
        self.index: set[int] = set()
        self.queues: dict[bytes, list[bytes]] = {}
        self.results: list[list[bytes]] = []
        #: Each position that was told, in order.
        self.told: list[Position] = []

    def apply(self, data: bytes, replies: int) -> None:
        """A transaction: `replies` are to be expected before EXEC's."""
        found = commands(data)
        assert len(found) - 1 == replies
        begin = found.index([b"MULTI"])
        assert found[-1] == [b"EXEC"]
        # Results first: what they belong to is acknowledged in the transaction behind them.
        self.results += found[:begin]
        for words in found[begin + 1 : -1]:
            self._one(words)

    def apply_results(self, data: bytes, replies: int) -> None:
        found = commands(data)
        assert len(found) == replies
        self.results += found

    def _one(self, words: list[bytes]) -> None:
        name = words[0]
        if name == b"UNLINK":
            number = int(words[1].removeprefix(PREFIX))
            claim = self.claims.pop(number)
            self.told += [(number, p) for p, message in enumerate(claim) if message is not None]
        elif name == b"LSET":
            number, position = int(words[1].removeprefix(PREFIX)), -int(words[2]) - 1
            assert words[3] == b""
            self.bury((number, position))
            self.told.append((number, position))
        elif name == b"SREM":
            assert words[1] == b"index"
            self.index.remove(int(words[2]))
        elif name == b"LPUSH":
            self.queues.setdefault(words[1], []).append(words[2])
        elif name == b"RPUSH":
            self.queues.setdefault(words[1], []).insert(0, words[2])
        else:
            assert words == [b"PING"]

    def bury(self, position: Position) -> bytes:
        """A tombstone, by a flush or by whoever gives a message back."""
        number, place = position
        message = self.claims[number][place]
        assert message is not None, f"{position} was told twice"
        self.claims[number][place] = None
        return message
