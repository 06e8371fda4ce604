"""The file behind the shared memory: who owns it, who may read it, and when it goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastq.errors import SurroundingsError
from fastq.ipc import segment
from fastq.ipc.segment import FORGOTTEN_S, SharedSegment, dead_segment, remove_forgotten, segment_files


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(segment, "_PLACES", (tmp_path,))
    return tmp_path


def make(worker: str = "w@h-1") -> SharedSegment:
    return SharedSegment.create(worker, slots=2, task_bytes=4096, result_bytes=4096)


def leave(worker: str) -> Path:
    """The segment of a process that is gone."""
    pid = os.fork()
    if pid == 0:
        make(worker)
        os._exit(0)
    os.waitpid(pid, 0)
    [path] = segment._PLACES[0].glob(f"fastq-{worker}")
    return path


def grow_old(path: Path) -> None:
    then = path.stat().st_mtime - FORGOTTEN_S - 1
    os.utime(path, (then, then))


def test_a_living_worker_s_segment_is_nobody_s_to_restore_from(places: Path) -> None:
    made = make()
    with dead_segment(str(made.path)) as found:
        assert found is None
    made.remove()
    assert list(places.iterdir()) == []


def test_a_dead_worker_s_segment_can_be_read_by_one(places: Path) -> None:
    path = leave("w@h-1")
    with dead_segment(str(path)) as found:
        assert found is not None
        assert found.core.worker == b"w@h-1"
        with dead_segment(str(path)) as second:
            assert second is None


def test_what_is_no_segment_is_nothing(places: Path) -> None:
    (places / "fastq-x").write_bytes(b"short")
    for path in (places / "fastq-x", places / "absent"):
        with dead_segment(str(path)) as found:
            assert found is None


def test_forgotten_segments_go_with_their_side_files(places: Path) -> None:
    gone, living = leave("gone@h-1"), make("living@h-2")
    Path(f"{gone}.t1").write_bytes(b"x")
    remove_forgotten()
    assert gone.exists(), "too young"
    for path in (gone, living.path):
        grow_old(path)
    remove_forgotten()
    assert list(places.iterdir()) == [living.path]


def test_side_files_of_a_worker_that_lives_are_not_forgotten(places: Path) -> None:
    living, orphan = make("w@shop.test-1").path, places / "fastq-gone@shop.test-2.s0"
    sides = [Path(f"{living}{end}") for end in (".s0", ".t12", ".r0.1.7")]
    for path in (*sides, orphan):
        path.write_bytes(b"x")
    for path in (living, *sides, orphan):
        grow_old(path)
    assert set(segment_files()) == {living, orphan}
    remove_forgotten()
    assert set(places.iterdir()) == {living, *sides}


def test_no_room_is_one_clear_sentence(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_PLACES", (places / "absent", places / "missing"))
    with pytest.raises(SurroundingsError, match=r"shared memory \(.*absent: No such file.*--shm-size"):
        make()
