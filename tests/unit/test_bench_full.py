"""What `make bench-full` works out without starting anything: who is measured on what, sizes, plans, latencies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import full
from bench.count import Ledger
from bench.ledger import RECORD, TICK_NS, WRAP
from bench.peers import client, registry
from bench.peers.peer import CAN, HOMES, able
from bench.processes import ROOT
from bench.workloads import registry as workloads
from bench.workloads.calibration import FULL, TRIAL_S, next_trial
from bench.workloads.latency import late_s
from bench.workloads.throughput import tenth_rates


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        # A sleep is never shorter than asked, and here a little longer.
        self.now += seconds + 1e-5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(client, "time", made)
    return made


def test_an_open_loop_sends_every_number_at_its_planned_moment(clock: Clock) -> None:
    sent: list[tuple[int, float]] = []
    plan = client.Host._steadily(lambda numbers: sent.extend((n, clock.now) for n in numbers), 7, 100.0, 0.5)
    assert [number for number, _ in sent] == list(range(7, 57))
    assert plan["count"] == 50
    behind = [at - (plan["began"] + (number - 7) / 100.0) for number, at in sent]
    assert min(behind) >= 0
    assert max(behind) < 1e-3


def test_a_sender_that_is_held_up_keeps_the_plan_and_says_how_late_it_was(clock: Clock) -> None:
    sent: list[tuple[int, float]] = []

    def send(numbers: range) -> None:
        sent.extend((n, clock.now) for n in numbers)
        if 10 in numbers:
            clock.sleep(0.2)

    plan = client.Host._steadily(send, 0, 100.0, 0.5)
    assert [number for number, _ in sent] == list(range(50))
    # Numbers 11 to 30 were due while it was held up: they count from when they were due.
    late = dict(zip(range(50), late_s(sent, began=plan["began"], rate=100.0), strict=True))
    assert late[11] == pytest.approx(0.19, abs=0.01)
    assert late[40] < 1e-3
    assert plan["late"] == pytest.approx(0.19, abs=0.01)


def test_what_ran_twice_counts_with_its_first_start() -> None:
    starts = [(0, 10.0), (1, 10.5), (1, 17.0), (0, 12.0)]
    assert late_s(starts, began=10.0, rate=10.0) == pytest.approx([0.0, 0.4])


def test_a_ledger_tells_what_was_lost_what_was_repeated_and_who_ran_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger._began_ticks = at = 3 * WRAP - 15  # the clock in records starts again between two of them
    starts = ((0, 0), (1, 10), (1, 20), (4, 30))
    first, second, third, last = (RECORD.pack(number, (at + ticks) % WRAP) for number, ticks in starts)
    (tmp_path / "11.led").write_bytes(first + second)
    (tmp_path / "12.led").write_bytes(third + last + b"\0\0\0")
    found = ledger.count(5)
    assert (found.executed, found.lost, found.repeated) == (4, 2, 1)
    assert found.span_s == pytest.approx(30 * TICK_NS / 1e9)
    assert (ledger.executed_by(11), ledger.executed_by(12), ledger.executed_by(13)) == (2, 2, 0)


@pytest.mark.parametrize(
    ("count", "seconds", "more"), [(40, 0.0, 400), (40, 0.001, 400), (100, 0.2, 250), (100, 0.3, 0)]
)
def test_trials_grow_until_one_is_long_enough(count: int, seconds: float, more: int) -> None:
    assert TRIAL_S == 0.25
    assert next_trial(count, seconds) == more


def test_the_rates_of_tenths_tell_a_backlog_that_slows_a_worker_down() -> None:
    times = [number * 0.01 for number in range(100)] + [1.0 + number * 0.02 for number in range(100)]
    first, last = tenth_rates(times)
    assert first == pytest.approx(100.0)
    assert last == pytest.approx(50.0)
    assert tenth_rates(times[:10]) == (0.0, 0.0)


def test_every_workload_is_for_fastq_and_is_compared_with_somebody() -> None:
    for workload in workloads.WORKLOADS:
        names = {peer.name for peer in registry.PEERS if workloads.takes(workload, peer)}
        alone = {"fleet"}
        assert {"fastq", "fastq-coroutines"} & names, workload.name
        assert len(names) > 1 or workload.name in alone, workload.name


def test_defaults_are_measured_where_a_workload_asks_for_them() -> None:
    noop = next(one for one in workloads.WORKLOADS if one.name == "noop")
    memory = next(one for one in workloads.WORKLOADS if one.name == "memory")
    labels = [[peer.label for peer in registry.PEERS if workloads.takes(one, peer)] for one in (noop, memory)]
    assert "rq (default)" in labels[0]
    assert "rq (tuned)" in labels[0]
    assert "rq (default)" not in labels[1]


def test_cases_are_made_of_workloads_and_systems() -> None:
    chosen = [one for one in workloads.WORKLOADS if one.name in ("noop", "late")]
    systems = [peer for peer in registry.PEERS if peer.label in ("fastq (tuned)", "saq (tuned)")]
    made = full.cases(chosen, systems, scale=FULL)
    assert [(case.workload, case.system) for case in made] == [("noop", "fastq"), ("noop", "saq"), ("late", "fastq")]


def test_every_peer_says_why_it_is_set_so_and_what_it_is_installed_from() -> None:
    for peer in registry.PEERS:
        assert peer.why.endswith((".", ")."))
        assert peer.packages
        if peer.home:
            made_of = (
                "tests/apm/packages.txt" if peer.home == "apm" else f"bench/peers/packages/{Path(peer.home).name}.txt"
            )
            assert (ROOT / made_of).exists()
            assert peer.python == HOMES / peer.home / "bin" / "python"
    labels = [peer.label for peer in registry.PEERS]
    assert len(labels) == len(set(labels))


def test_a_command_gets_queue_children_and_application() -> None:
    celery = next(peer for peer in registry.PEERS if peer.label == "celery (tuned)")
    command = celery.command("some.app", queue="q", children=3)
    assert {"some.app", "q", "3"} <= set(command)
    assert "{" not in " ".join(command)


def test_an_unknown_ability_is_refused() -> None:
    assert able("results chord") <= CAN
    with pytest.raises(ValueError, match="telepathy"):
        able("results telepathy")


@pytest.mark.parametrize("given", [["--systems", "sidekiq"], ["--workloads", "nothing"], ["--settings", "best"]])
def test_what_is_not_known_is_refused_with_a_list(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        full._arguments(given)
    assert "there are" in capsys.readouterr().err


def test_a_client_answers_with_the_error_of_what_it_was_asked_for() -> None:
    class Wrong:
        def send(self, task: str, number: int) -> int:
            return number

        def wait(self, handle: int, timeout_s: float) -> Any:
            return handle + 1

    with pytest.raises(RuntimeError, match="the result of 3 came back as 4"):
        client.Host(Wrong()).calls(start=3, count=1)


def test_a_client_without_a_way_to_send_last_sends_as_ever() -> None:
    sent: list[int] = []

    class Plain:
        def fill(self, task: str, numbers: range) -> None:
            sent.extend(numbers)

    client.Host(Plain()).fill_last("noop", 2, 3, [])
    assert sent == [2, 3, 4]
