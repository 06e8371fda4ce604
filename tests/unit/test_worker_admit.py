"""Messages that are not plain: a large one goes by a file, and waits if there is no room for it."""

from __future__ import annotations

import errno
import mmap
import stat
from pathlib import Path

import pytest

from fastq import _core, clock
from fastq.program import TaskInfo
from fastq.worker.pipeline.admit import NO_ROOM_S, Admission
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
