"""Rings between real processes: every byte is checked, both sides sleep and wake, children are killed."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import time
from pathlib import Path

import pytest

from tests.core.forked import Stress, Traffic
from tests.core.ledger_lab import Lab

SLOW = bool(os.environ.get("FASTQ_TEST_SLOW"))

#: Messages of each run: enough to go around small rings thousands of times.
COUNT = 1_000_000 if SLOW else 40_000


def drive(folder: Path, stress: Stress, *, task_bytes: int = 8192, result_bytes: int = 4096) -> Traffic:
    """Run it, and check that everything came to its end exactly once."""
    lab = Lab(folder, slots=2, task_bytes=task_bytes, result_bytes=result_bytes)
    traffic = Traffic(lab, stress)
    traffic.run()
    assert set(traffic.answers) == set(range(stress.messages))
    assert (lab.ledger.size, lab.ledger.busy(), lab.ledger.unstarted()) == (0, 0, 0)
    assert lab.ledger.settled == stress.messages
    assert lab.segment.started_unconfirmed() == []
    lab.close()
    return traffic


@pytest.mark.timeout(900 if SLOW else 100)
@pytest.mark.parametrize(
    ("task_bytes", "result_bytes", "stress"),
    [
        (4096, 4096, Stress(messages=COUNT, sizes=300, depth=3)),
        (8192, 4096, Stress(messages=COUNT, sizes=900)),
        (8192, 4096, Stress(messages=COUNT, sizes=8, nap_s=0.0, depth=100)),
        (65536, 8192, Stress(messages=COUNT, sizes=2500)),
        (1 << 20, 1 << 19, Stress(messages=COUNT, sizes=60, depth=768)),
        (8192, 4096, Stress(messages=COUNT, sizes=300, recalls=0.2)),
        (8192, 4096, Stress(messages=COUNT // 10, sizes=1500, jitter=20)),
        (4096, 4096, Stress(messages=COUNT // 10, sizes=100, depth=2, jitter=10, recalls=0.2)),
    ],
)
def test_every_frame_arrives_whole_and_once(tmp_path: Path, task_bytes: int, result_bytes: int, stress: Stress) -> None:
    traffic = drive(tmp_path, stress, task_bytes=task_bytes, result_bytes=result_bytes)
    assert traffic.waits, "the engine never slept: this tested no wake-up"


@pytest.mark.timeout(900 if SLOW else 100)
@pytest.mark.parametrize("seed", range(40 if SLOW else 6))
def test_children_killed_at_any_time(tmp_path: Path, seed: int) -> None:
    """What a child had finished stays finished, what it ran is returned once, the rest runs elsewhere."""
    stress = Stress(messages=3000, seed=seed, sizes=700, kills=0.05, recalls=0.05, jitter=50 * (seed % 2))
    traffic = drive(tmp_path, stress)
    assert traffic.killed > 5
    assert not [name for name in os.listdir(tmp_path) if name.startswith("t")]


class Heard(Exception):
    """What the handler raises."""


def raise_heard(_signum: int, _frame: object) -> None:
    raise Heard


def test_a_signal_is_heard_before_the_child_sleeps(tmp_path: Path) -> None:
    """Its handler may end the process: it must not wait for the next task."""
    lab = Lab(tmp_path)
    port = lab.open_child(0)
    before = signal.signal(signal.SIGUSR1, raise_heard)
    # One call after the other from C, so that Python looks for signals nowhere but in `wait`.
    kill = functools.partial(ctypes.CDLL(None)["kill"], os.getpid(), int(signal.SIGUSR1))
    began = time.monotonic()
    try:
        with pytest.raises(Heard):
            list(map(functools.partial.__call__, [kill, functools.partial(port.wait, 5.0)]))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - began < 4
    assert port.wait(0.0) == 0
    lab.close()
