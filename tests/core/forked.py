"""A forked child at the other end of the rings: checks what it gets, and answers with checksums."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import struct
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from typing import NoReturn

import msgspec

from fastq import _core
from tests.core.ledger_lab import STAMP, Lab

#: number, checksum of the rest
HEAD = struct.Struct("<II")
#: magic, bytes of the filling, number, checksum of the payload, checksum of the filling
RESULT = struct.Struct("<4sIIII")
MAGIC = b"done"
#: Nothing that is awake takes this long; who waits longer has been forgotten.
LIMIT_S = 20.0


def payload(number: int, size: int) -> bytes:
    filling = random.Random(number).randbytes(size)
    return HEAD.pack(number, zlib.crc32(filling)) + filling


def fork(body: Callable[[], object]) -> int:
    """Run `body` in a new process; whatever it raises is a failure. The pid."""
    pid = os.fork()
    if pid:
        return pid
    run_and_exit(body)


def run_and_exit(body: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def consume(port: _core.ChildPort, *, seed: int, sizes: int, nap_s: float) -> None:
    """Work until told to leave. Now and then sleep a little, so that the other side finds an empty or a full ring."""
    chance = random.Random(seed)
    port.ready(os.getpid())
    while not port.stopping:
        began = time.monotonic()
        found = port.wait(LIMIT_S)
        assert time.monotonic() - began < LIMIT_S / 2, "nobody woke the child"
        if found == 1 and port.start():
            answer(port, chance, sizes=sizes)
        if nap_s and chance.random() < 0.02:
            time.sleep(chance.random() * nap_s)


def answer(port: _core.ChildPort, chance: random.Random, *, sizes: int) -> None:
    """Check the payload, and send a result of some size, sometimes with another before it."""
    data = port.payload()
    number, checksum = HEAD.unpack_from(data)
    assert zlib.crc32(data[HEAD.size :]) == checksum, "a damaged task"
    if chance.random() < 0.1:
        port.store(1, result(number, checksum, b"s" * chance.randrange(sizes)))
    port.outcome(_core.ACK, 1, result(number, checksum, chance.randbytes(chance.randrange(sizes))))


def result(number: int, checksum: int, filling: bytes) -> bytes:
    return RESULT.pack(MAGIC, len(filling), number, checksum, zlib.crc32(filling)) + filling


def results(data: bytes) -> Iterator[tuple[int, int]]:
    """(number, checksum of the payload) of each result in a flush, which must be whole."""
    at = 0
    while data[at : at + len(MAGIC)] == MAGIC:
        _magic, size, number, checksum, of_filling = RESULT.unpack_from(data, at)
        at += RESULT.size + size
        assert zlib.crc32(data[at - size : at]) == of_filling, "a damaged result"
        yield number, checksum
    assert data[at:].startswith(b"*1\r\n$5\r\nMULTI\r\n"), "something else among the results"


class Stress(msgspec.Struct, kw_only=True):
    """What is done to the rings, and how much."""

    messages: int
    seed: int = 0
    #: Bytes of payloads and results at most; a few are larger.
    sizes: int = 600
    nap_s: float = 0.0002
    recalls: float = 0.0
    kills: float = 0.0
    depth: int = 20
    #: A moment's sleep per so many steps between two words that both sides look at; in debug builds only.
    jitter: int = 0


class Traffic:
    """The engine's side: deals numbered messages to forked children until all have been answered."""

    def __init__(self, lab: Lab, stress: Stress) -> None:
        self.lab, self.ledger, self.stress = lab, lab.ledger, stress
        self.chance = random.Random(stress.seed)
        self.poll = select.poll()
        self.poll.register(lab.eventfd, select.POLLIN)
        self.pids: dict[int, int] = {}
        self.sent = self.killed = self.waits = 0
        #: Answers by number.
        self.answers: dict[int, int] = {}
        self.victims: dict[int, int] = {}

    def run(self) -> None:
        """Everything; afterwards no child is left."""
        _core.set_jitter(self.stress.jitter)
        try:
            while self.ledger.size or self.sent < self.stress.messages:
                self._turn()
            self._dismiss()
        finally:
            _core.set_jitter(0)
            for pid in self.pids.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)

    def _turn(self) -> None:
        self._keep_children()
        assert self.ledger.collect() == []
        if self.ledger.held < 60 and self.sent < self.stress.messages:
            self._claim(min(40, self.stress.messages - self.sent))
        self.ledger.set_depths(self.stress.depth)
        self.ledger.deal()
        self._disturb()
        self._flush()
        self._sleep()

    def _claim(self, count: int) -> None:
        batch, _number = self.ledger.open_batch(0, count)
        for _ in range(count):
            self.ledger.take_one(batch, b"not plain")
        self.ledger.close_batch(batch)
        for entry, _raw in self.ledger.take_odd():
            size = self.chance.randrange(self.stress.sizes) * (3 if self.chance.random() < 0.02 else 1)
            self._place(entry, payload(self.sent, size))
            self.sent += 1

    def _place(self, entry: int, data: bytes) -> None:
        if len(data) > self.ledger.largest:
            self.ledger.place(entry, self.lab.side_file(data), flags=_core.LATE | _core.SIDE)
        else:
            self.ledger.place(entry, data, flags=_core.LATE)

    def _disturb(self) -> None:
        slot = self.chance.randrange(self.lab.slots)
        if self.chance.random() < self.stress.recalls:
            self.ledger.recall(slot)
        if self.chance.random() < self.stress.kills and slot in self.pids:
            os.kill(self.pids[slot], signal.SIGKILL)
            self._bury(slot, expected=-signal.SIGKILL)
            self.killed += 1

    def _flush(self) -> None:
        found = self.ledger.flush(STAMP)
        if found is not None:
            for number, _checksum in results(found[0]):
                self.answers[number] = self.answers.get(number, 0) + 1
            self.ledger.confirm()

    def _sleep(self) -> None:
        if self.chance.random() < 0.05:
            time.sleep(self.chance.random() * self.stress.nap_s)
        busy = self.ledger.busy() > 0
        if not self.ledger.sleep(self.chance.random() < 0.5) and busy:
            self.waits += 1
            assert self.poll.poll(LIMIT_S * 1000), "nobody woke the engine"
        self.ledger.awake()
        if self.poll.poll(0):
            os.eventfd_read(self.lab.eventfd)

    def _keep_children(self) -> None:
        for slot in range(self.lab.slots):
            if slot not in self.pids and self.ledger.reusable(slot):
                self.ledger.open_child(slot)
                seed = self.chance.randrange(1 << 30)
                self.pids[slot] = fork(lambda slot=slot, seed=seed: self._consume(slot, seed))  # type: ignore[misc]

    def _consume(self, slot: int, seed: int) -> None:
        port = _core.ChildPort(self.lab.segment, slot, self.lab.eventfd, str(self.lab.folder / "side"))
        consume(port, seed=seed, sizes=self.stress.sizes, nap_s=self.stress.nap_s)

    def _bury(self, slot: int, *, expected: int) -> None:
        _pid, status = os.waitpid(self.pids.pop(slot), 0)
        assert os.waitstatus_to_exitcode(status) == expected
        for victim in self.ledger.bury(slot):
            number, checksum = HEAD.unpack_from(victim[4])
            assert zlib.crc32(victim[4][HEAD.size :]) == checksum
            self.victims[number] = self.victims.get(number, 0) + 1
            self._place(victim[0], victim[4])

    def _dismiss(self) -> None:
        for slot in list(self.pids):
            assert self.ledger.dismiss(slot) == 0
            self._bury(slot, expected=0)
