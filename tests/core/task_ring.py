"""The engine's end of one child's rings in plain Python: puts frames in and takes results out, in one process."""

from __future__ import annotations

import base64
import ctypes
import json
import mmap
import platform
import struct
from typing import Any, NamedTuple

from fastq import _core
from fastq.wire.packed import UUID_HEAD, is_packed, pack_id

#: Offsets of _core/layout.pxi; a wrong one fails every test that uses this file.
PAGE = 4096
TASK_HEAD, RESULT_TAIL, COMMAND, RESULT_HEAD = 0, 40, 48, 152
FRAME = struct.Struct("<IHHIIIIQdddIIIIIIQ")
RESULT = struct.Struct("<IHHIIQII")
assert (FRAME.size, RESULT.size) == _core.HEADER_SIZES, "_core/layout.pxi has changed: adapt this file to it"
CHILD_WAIT = 192
#: futex(2) of x86-64 and of the others.
FUTEX_CALL, FUTEX_WAKE = (202 if platform.machine() == "x86_64" else 98), 1
TASK_PAD, KIND_OUTCOME, KIND_STORE = 4, 1, 2

NO_CANVAS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Answer(NamedTuple):
    """One frame of the result ring."""

    kind: int
    outcome: int
    number: int
    commands: int
    data: bytes


class TaskRing:
    """A segment with one slot, in anonymous shared memory."""

    def __init__(self, *, task_bytes: int = 1 << 16, result_bytes: int = 1 << 16) -> None:
        self.task_bytes, self.result_bytes = task_bytes, result_bytes
        self.memory = mmap.mmap(-1, _core.Segment.size_of(1, task_bytes, result_bytes))
        self.segment = _core.Segment.create(
            self.memory, slots=1, task_bytes=task_bytes, result_bytes=result_bytes, worker=b"test"
        )
        self.head = self.count = self.read_to = 0

    def port(self, eventfd: int = -1, side_prefix: str = "/nonexistent/side") -> _core.ChildPort:
        """The child's end."""
        return _core.ChildPort(self.segment, 0, eventfd, side_prefix)

    def put(
        self, envelope: bytes, *, task: int = 0, flags: int = 0, kind: int = _core.TASK, expires: float = 0.0
    ) -> None:
        """Write one frame as the engine would: with spans if the envelope is plain, else flagged odd."""
        spans, flags = self._spans(envelope, flags, kind)
        size = (FRAME.size + len(envelope) + 7) & ~7
        place = self.head % self.task_bytes
        if place + size > self.task_bytes:
            self._write(2 * PAGE + place, struct.pack("<IH", self.task_bytes - place, TASK_PAD))
            self.head += self.task_bytes - place
            place = 0
        header = FRAME.pack(size, kind, flags, 0, task, 0, 0, 0, expires, 0, 0, *spans, len(envelope), 0, 0)
        self._write(2 * PAGE + place, header + envelope)
        self.head += size
        self.count += 1
        struct.pack_into("<QQ", self.memory, PAGE + TASK_HEAD, self.head, self.count)

    @staticmethod
    def _spans(envelope: bytes, flags: int, kind: int) -> tuple[tuple[int, int, int, int], int]:
        plain = _core.scan(envelope) if kind == _core.TASK else None
        if plain is None:
            return (0, 0, 0, 0), flags | _core.ODD
        _task, task_id, body = plain
        if is_packed(envelope):
            packed = pack_id(task_id)
            raw_id = packed[2:] if packed.startswith(UUID_HEAD) else task_id.encode()
            return (envelope.index(raw_id), len(raw_id), len(envelope) - len(body), len(body)), flags | _core.PACKED
        quoted = envelope.index(b'"id": "' + task_id.encode()) + len(b'"id": "')
        return (quoted, len(task_id), envelope.index(body), len(body)), flags

    def leave(self) -> None:
        """Ask the child to leave."""
        struct.pack_into("<I", self.memory, PAGE + COMMAND, 1)

    def wake(self) -> None:
        """Wake a child that sleeps, as the engine does."""
        struct.pack_into("<I", self.memory, PAGE + CHILD_WAIT, 0)
        word = (ctypes.c_char * len(self.memory)).from_buffer(self.memory)
        ctypes.CDLL(None).syscall(
            FUTEX_CALL, ctypes.c_void_p(ctypes.addressof(word) + PAGE + CHILD_WAIT), FUTEX_WAKE, 1, None, None, 0
        )

    def answers(self) -> list[Answer]:
        """What the child has written since the last call."""
        found = []
        (head,) = struct.unpack_from("<Q", self.memory, PAGE + RESULT_HEAD)
        while self.read_to < head:
            at = 2 * PAGE + self.task_bytes + self.read_to % self.result_bytes
            size, kind, _flags, _entry, outcome, number, commands, length = RESULT.unpack_from(self.memory, at)
            if kind != TASK_PAD:
                data = bytes(self.memory[at + RESULT.size : at + RESULT.size + length])
                found.append(Answer(kind, outcome, number, commands, data))
            self.read_to += size
        struct.pack_into("<Q", self.memory, PAGE + RESULT_TAIL, self.read_to)
        return found

    def peek(self) -> dict[str, int]:
        """The slot's counters."""
        counters: dict[str, int] = self.segment.peek(0)
        return counters

    def _write(self, at: int, data: bytes) -> None:
        self.memory[at : at + len(data)] = data


def envelope(
    task: str = "t.add",
    args: Any = (),
    kwargs: Any = None,
    *,
    embed: Any = None,
    body: bytes | None = None,
    task_id: str = "11111111-2222-4333-8444-555555555555",
    properties: Any = None,
    **headers: Any,
) -> bytes:
    """A message as Celery's client writes it."""
    if body is None:
        body = json.dumps([list(args), kwargs or {}, embed or NO_CANVAS]).encode()
    fields: dict[str, Any] = {
        "lang": "py",
        "task": task,
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": repr(tuple(args)),
        "kwargsrepr": repr(kwargs or {}),
        "origin": "gen1@host",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": fields | headers,
        "properties": {
            "correlation_id": task_id,
            "reply_to": "99999999-2222-4333-8444-555555555555",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "77777777-2222-4333-8444-555555555555",
        }
        | (properties or {}),
    }
    return json.dumps(message).encode()


def commands(data: bytes) -> list[list[bytes]]:
    """RESP commands taken apart."""
    found: list[list[bytes]] = []
    at = 0
    while at < len(data):
        count, at = _number(data, at)
        words = []
        for _ in range(count):
            size, at = _number(data, at)
            words.append(data[at : at + size])
            at += size + 2
        found.append(words)
    return found


def _number(data: bytes, at: int) -> tuple[int, int]:
    end = data.index(b"\r\n", at)
    return int(data[at + 1 : end]), end + 2
