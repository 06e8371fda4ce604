"""A signal is a child's own if its engine has not had it, too; a process that a task has forked is nobody's child."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from fastq.ipc import group
from fastq.ipc.group import Stops

TERM, QUIT = signal.SIGTERM, signal.SIGQUIT


class Door:
    """As far as a child's door is asked here."""

    def __init__(self) -> None:
        self.ending = False
        self.counts = {signal.SIGHUP: 4, QUIT: 0, TERM: 1}

    def heard(self, number: int) -> int:
        return self.counts[signal.Signals(number)]


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    monkeypatch.setattr(group, "PATIENCE_S", 0.02)
    return Door()


def test_what_the_engine_had_before_this_child_was_born_excuses_nothing(door: Door) -> None:
    assert Stops(door).is_for_me(TERM)


def test_one_signal_there_excuses_one_here(door: Door) -> None:
    stops = Stops(door)
    door.counts[TERM] += 1
    assert not stops.is_for_me(TERM)
    assert stops.is_for_me(TERM)
    door.counts[TERM] += 2  # the second may be looked at before the first is here
    assert [stops.is_for_me(TERM) for _ in range(3)] == [False, False, True]
    assert stops.is_for_me(QUIT), "another signal"


def test_the_engine_may_have_it_a_moment_later(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "PATIENCE_S", 10.0)
    stops = Stops(door)
    later = threading.Timer(0.05, door.counts.__setitem__, (TERM, 2))
    later.start()
    assert not stops.is_for_me(TERM)
    later.join()


def test_what_the_engine_sends_is_meant(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "PATIENCE_S", 60.0)
    stops = Stops(door)
    door.counts[TERM] += 1
    door.ending = True
    assert stops.is_for_me(TERM)


def test_a_process_that_a_task_has_forked_ends_at_once(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = Stops(door)
    door.counts[TERM] += 1
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert stops.is_for_me(TERM)
