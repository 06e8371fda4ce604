"""The floor of the benchmarks: it makes a worker's calls, and answers as one; the machine is described beside it."""

from __future__ import annotations

import pytest

from bench import floor, machine
from bench.lab import lab

pytestmark = pytest.mark.fastq_only("a program of the benchmarks")


def test_the_floor_makes_a_workers_calls_and_leaves_nothing_but_results() -> None:
    found = floor.drain(task="stored", count=700, keep=True)
    assert (found.lost, found.measure) == (0, "rate")
    assert found.value > 1_000
    with lab() as place:
        place.fill("noop", 3)
        with floor.answering(place.url):
            handle = place.producer.send("bench.apps.tasks.stored", (42,))
            assert handle.get(timeout=10) == 42
        assert place.client.llen("bench") == 0


def test_the_machine_is_described() -> None:
    about = machine.about()
    assert {"date", "commit", "machine", "pinning", "python", "redis", "packages", "before", "warnings"} <= set(about)
    assert about["packages"]["msgspec"]
