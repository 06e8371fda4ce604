"""What the children run at this moment, with the messages: for those who end tasks, and for those who ask."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from fastq import _core
from fastq.errors import PeerError
from fastq.wire.envelope import Header, read_header


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A task that a child has started. It may be over by now."""

    slot: int
    #: Number of its frame in the slot's ring.
    number: int
    entry: int
    #: Index in `ProgramInfo.tasks`.
    task: int
    late: bool
    #: By the monotonic clock.
    began_ns: int
    raw: bytes
    header: Header


def running(ledger: _core.Ledger, slots: Iterable[int]) -> Iterator[Running]:
    """One for each task that a child runs."""
    for slot in slots:
        for fact in ledger.all_running(slot):
            found = _running(ledger, slot, fact)
            if found is not None:
                yield found


def _running(ledger: _core.Ledger, slot: int, fact: tuple[int, int, int, int, float, float, int]) -> Running | None:
    number, entry, kind, task, _soft_s, _hard_s, began_ns = fact
    if kind != _core.TASK:
        return None
    try:
        flags, payload = ledger.running_payload(slot, number)
    except ValueError:
        return None  # one of many in flight, and over by now
    raw, late = message(flags, payload), bool(flags & _core.LATE)
    header = header_of(raw)
    if header is None:
        return None
    return Running(
        slot=slot, number=number, entry=entry, task=task, late=late, began_ns=began_ns, raw=raw, header=header
    )


def message(flags: int, payload: bytes) -> bytes:
    """The message in a task frame: its payload, or what is in the file beside the segment; nothing if that is gone."""
    if not flags & _core.SIDE:
        return payload
    try:
        return Path(os.fsdecode(payload)).read_bytes()
    except OSError:
        return b""


def header_of(raw: bytes) -> Header | None:
    """What the engine knows of a message; None if it cannot be read."""
    try:
        return read_header(raw)
    except PeerError:
        return None
