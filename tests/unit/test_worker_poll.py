"""The engine's only place to block calls whom an event is for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fastq.worker.poll import Poller


class Pipes:
    """Pipes by their reading ends, and who was called for which."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.called: list[str] = []
        self.ends: dict[int, int] = {}

    def open(self, *, filled: bool) -> int:
        read, write = os.pipe()
        self.ends[read] = write
        if filled:
            os.write(write, b"x")
        return read

    def watch(self, fd: int, name: str) -> None:
        self.poller.watch(fd, lambda _events: self.called.append(name))

    def close(self, fd: int) -> None:
        self.poller.forget(fd)
        os.close(self.ends.pop(fd))
        os.close(fd)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    given = Pipes()
    yield given
    for fd in list(given.ends):
        given.close(fd)
    given.poller.close()


@pytest.mark.parametrize("filled", [False, True])
def test_what_came_for_a_file_is_not_told_to_the_next_of_its_number(pipes: Pipes, filled: bool) -> None:
    """Two children die at once; hearing of the first, the engine closes the other's pidfd and opens that of a third."""
    pair = [pipes.open(filled=True), pipes.open(filled=True)]

    def replace(this: int, other: int) -> None:
        pipes.called.append("old")
        for fd in (this, other):
            pipes.close(fd)
        for fd in sorted((this, other)):
            assert pipes.open(filled=filled) == fd, "numbers are given out again"
            pipes.watch(fd, "new")

    pipes.poller.watch(pair[0], lambda _events: replace(*pair))
    pipes.poller.watch(pair[1], lambda _events: replace(*reversed(pair)))
    pipes.poller.wait(5)
    assert pipes.called == ["old"]
    pipes.poller.wait(0)
    assert pipes.called == ["old"] + ["new"] * 2 * filled
