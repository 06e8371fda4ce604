"""Messages that are not plain: a large one goes by a file, and waits if there is no room for it."""

from __future__ import annotations

import errno
import mmap
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fastq import _core, clock
from fastq.program import TaskInfo
from fastq.worker.pipeline.admit import NO_ROOM_S, Admission
from tests.core.ledger_lab import FAST
from tests.core.task_ring import envelope

LARGE = envelope("t.add", ("x" * 40_000,), task_id="large-1")


@pytest.fixture
def ledger() -> _core.Ledger:
    memory = mmap.mmap(-1, _core.Segment.size_of(1, 1 << 16, 1 << 12))
    segment = _core.Segment.create(memory, slots=1, task_bytes=1 << 16, result_bytes=1 << 12, worker=b"w")
    ledger = _core.Ledger(segment, [b"t.add"], [False], [(0.0, 0.0)])
    ledger.add_key(b"celery", b"claim:", b"index")
    return ledger


@pytest.fixture
def admission(ledger: _core.Ledger, tmp_path: Path) -> Admission:
    return Admission(
        ledger,
        tasks=[TaskInfo(name="t.add")],
        side_prefix=tmp_path / "fastq-w",
        dead_key=lambda _key: b"dead",
        log_received=False,
    )


def claim(ledger: _core.Ledger, message: bytes) -> tuple[int, bytes]:
    batch, _number = ledger.open_batch(0, 1)
    ledger.take_one(batch, message)
    ledger.close_batch(batch)
    [(entry, raw)] = ledger.take_odd()
    return entry, raw


def test_a_large_message_goes_by_a_file_of_this_user_s_own(
    ledger: _core.Ledger, admission: Admission, tmp_path: Path
) -> None:
    admission.admit(*claim(ledger, LARGE))
    assert ledger.pending == 1
    [file] = tmp_path.iterdir()
    assert file.read_bytes() == LARGE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_full_disk_puts_it_off(
    ledger: _core.Ledger, admission: Admission, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_arguments: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_core, "write_side", full)
    admission.admit(*claim(ledger, LARGE))
    assert (ledger.pending, ledger.waiting) == (0, 1)
    assert ledger.next_due() == pytest.approx(clock.now() + NO_ROOM_S, abs=1)
    assert "No room for the message t.add[large-1]" in caplog.text
    assert "No space left on device" in caplog.text


def test_the_temporary_files_have_room_when_shared_memory_has_none(tmp_path: Path) -> None:
    path = Path(_core.write_side(str(tmp_path / "absent" / "fastq-w"), ".t1", b"payload").decode())
    try:
        assert path.read_bytes() == b"payload"
        assert path.parent != tmp_path / "absent"
    finally:
        path.unlink()


def parked(ledger: _core.Ledger, admission: Admission, **headers: Any) -> tuple[int, bytes]:
    """A message whose time has come, in the caller's hands."""
    later = datetime.fromtimestamp(clock.now() + 60, timezone.utc).isoformat()
    admission.admit(*claim(ledger, message := envelope("t.add", task_id="later-1", eta=later, **headers)))
    [(entry, *_place)] = ledger.take_due(clock.now() + 120, 10)
    return entry, message


def test_what_was_parked_is_dealt_without_being_read_again(ledger: _core.Ledger, admission: Admission) -> None:
    entry, message = parked(ledger, admission)
    assert ledger.resume(entry, message)
    assert ledger.line() == [(entry, 0, 0 if FAST else _core.ODD, message)]
    with pytest.raises(ValueError, match="not in the caller's hands"):
        ledger.resume(entry, message)


@pytest.mark.parametrize("headers", [{"expires": "2100-01-01T00:00:00+00:00"}, {"timelimit": [5, None]}])
def test_what_has_more_than_a_time_is_looked_at_again(
    ledger: _core.Ledger, admission: Admission, headers: dict[str, object]
) -> None:
    entry, message = parked(ledger, admission, **headers)
    assert not ledger.resume(entry, message)
    admission.admit(entry, message, due=True)
    assert ledger.pending == 1


@pytest.mark.parametrize("ids", [{b"other"}, {b"later-1"}])
def test_what_was_revoked_meanwhile_is_looked_at_again(
    ledger: _core.Ledger, admission: Admission, ids: set[bytes]
) -> None:
    entry, message = parked(ledger, admission)
    ledger.revoked = ids
    assert ledger.resume(entry, message) == (b"later-1" not in ids)


def test_what_has_no_one_readable_id_is_looked_at_again_while_somebody_is_revoked(
    ledger: _core.Ledger, admission: Admission
) -> None:
    entry, message = parked(ledger, admission)
    ledger.revoked = {b"other"}
    for strange in (b"", b"\x94", b"{", message[:-5], message.replace(b'"later-1"', b'"\\u0041"')):
        assert not ledger.resume(entry, strange)
    for twice in (b'"headers": {"id": "x"}, ', b'"headers": 5, '):
        assert not ledger.resume(entry, b"{" + twice + message[1:])
    assert not ledger.resume(entry, message.replace(b'"headers": {', b'"headers": {"id": "x", '))
    ledger.revoked, ledger.stamps_revoked = None, True
    assert not ledger.resume(entry, message)


def test_a_task_that_is_gone_or_limited_meanwhile_is_looked_up_again(
    ledger: _core.Ledger, admission: Admission
) -> None:
    entry, message = parked(ledger, admission)
    ledger.know([b""], [False], [(0.0, 0.0)])
    assert not ledger.resume(entry, message)
    ledger.know([b"t.add"], [True], [(1.0, 2.0)])
    assert ledger.resume(entry, message)
    assert ledger.line() == [(entry, 0, _core.LATE | (0 if FAST else _core.ODD), message)]
    assert ledger.shortest_limit == 1.0
