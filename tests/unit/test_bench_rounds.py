"""Benchmarks are measured in rounds that take turns, and what is complete is kept, whatever happens."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import cores, machine, pace, rounds
from bench.machine import State
from bench.measurement import Sample, load
from bench.pace import Pace
from bench.rounds import Case


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at the real one takes a second, and git."""
    about = {
        "machine": "m",
        "system": "s",
        "pinning": "none",
        "python": "3",
        "redis": "r",
        "packages": {},
        "warnings": [],
    }
    monkeypatch.setattr(machine, "about", lambda: about)
    monkeypatch.setattr(cores, "pin", lambda *_role: None)


def counting(values: list[float], order: list[str], name: str) -> Case:
    def run() -> list[Sample]:
        order.append(name)
        return [Sample(measure="rate", value=values.pop(0), unit="tasks/s", better="higher")]

    return Case(workload="noop", system=name, run=run)


def test_every_round_runs_every_case_and_begins_with_another(tmp_path: Path) -> None:
    order: list[str] = []
    cases = [counting([1.0, 2.0, 3.0], order, name) for name in "abc"]
    results, path = rounds.run(cases, rounds=3, size="quick", path=tmp_path / "found.json")
    assert ["".join(order[at : at + 3]) for at in (0, 3, 6)] == ["abc", "bca", "cab"]
    assert [one.values for one in results.measurements] == [(1.0, 2.0, 3.0)] * 3
    assert load(path).measurements == results.measurements
    during = load(path).about["during"]
    assert {"seconds", "steal", "cases"} == set(during)
    assert {name: len(taken) for name, taken in during["cases"].items()} == {f"noop: {name}": 3 for name in "abc"}


def test_complete_rounds_are_kept_when_it_is_interrupted(tmp_path: Path) -> None:
    left = [7.0]

    def interrupt() -> list[Sample]:
        if not left:
            raise KeyboardInterrupt
        return [Sample(measure="rate", value=left.pop(), unit="tasks/s", better="higher")]

    cases = [counting([1.0, 2.0], [], "a"), Case(workload="noop", system="b", run=interrupt)]
    with pytest.raises(KeyboardInterrupt):
        rounds.run(cases, rounds=3, size="quick", path=tmp_path / "found.json")
    kept = load(tmp_path / "found.json")
    assert (kept.rounds_done, kept.rounds) == (1, 3)
    assert [one.values for one in kept.measurements] == [(1.0,), (7.0,)]


def test_a_round_that_would_end_too_late_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [counting([1.0] * 5, [], "a")]
    results, _path = rounds.run(cases, rounds=5, size="quick", path=tmp_path / "found.json", within_s=1e-9)
    assert results.rounds_done == 1
    assert "no time for another" in capsys.readouterr().err


def test_cores_are_shared_out_where_there_are_four() -> None:
    assert cores.share_out((0, 1, 2)) == {}
    assert cores.share_out((0, 1, 2, 5)) == {"server": (0,), "sender": (1,), "worker": (2, 5)}


def test_a_machine_that_is_not_quiet_is_named() -> None:
    assert State(load=0.1, busy=(), steal=0.0, governor="").warnings() == []
    found = State(load=2.0, busy=("cc1 (7) 90%",), steal=0.2, governor="powersave").warnings()
    assert len(found) == 4
    assert "cc1 (7) 90%" in found[1]


def test_parts_of_a_suite_that_are_measured_one_after_the_other_are_in_one_file(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    rounds.run([counting([1.0], [], "a"), counting([2.0], [], "b")], rounds=1, size="quick", path=out)
    rounds.run([counting([3.0], [], "b"), counting([4.0], [], "c")], rounds=1, size="quick", path=out)
    assert {one.system: one.values for one in load(out).measurements} == {"a": (1.0,), "b": (3.0,), "c": (4.0,)}
    rounds.run([counting([5.0], [], "a")], rounds=1, size="normal", path=out)
    assert {one.system: one.values for one in load(out).measurements} == {"a": (5.0,)}


def test_what_hangs_is_ended_and_the_others_are_measured(tmp_path: Path) -> None:
    def hang() -> list[Sample]:
        time.sleep(30)
        return []

    hangs = Case(workload="noop", system="h", run=hang, within_s=0.05)
    results, _ = rounds.run([hangs, counting([1.0], [], "a")], rounds=1, size="quick", path=tmp_path / "found.json")
    assert [one.reason for one in results.measurements] == ["TooLongError: it was not done after 0.05 s", ""]


def test_the_end_is_expected_from_what_cases_took() -> None:
    found = Pace({"a": [2.0], "b": [4.0]})
    assert found.expected_s(["a", "a", "b"]) == 8.0
    assert Pace({}).expected_s(["a"]) is None
    found.taken["a"] = [1.0, 3.0, 5.0]
    assert found.expected_s(["a", "b", "c"]) == 3.0 + 4.0 + 3.0


def test_what_is_not_in_all_rounds_makes_room_when_time_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time=time.time, strftime=time.strftime, localtime=time.localtime)
    monkeypatch.setattr(rounds, "time", clock)
    monkeypatch.setattr(pace, "time", clock)

    def case(name: str, at_most: int) -> Case:
        def run() -> list[Sample]:
            now[0] += 10.0
            return [Sample(measure="rate", value=now[0], unit="tasks/s", better="higher")]

        return Case(workload="noop", system=name, run=run, at_most=at_most)

    # Five rounds of one and three of the other take 80 s.
    for within_s, main, side in ((85.0, 5, 3), (75.0, 5, 2), (65.0, 5, 1), (45.0, 3, 1)):
        results, _ = rounds.run(
            [case("main", 0), case("side", 3)],
            rounds=5,
            size="q",
            path=tmp_path / f"{within_s}.json",
            within_s=within_s,
        )
        assert {one.system: len(one.values) for one in results.measurements} == {"main": main, "side": side}
