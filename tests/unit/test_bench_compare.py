"""Two results files are compared by a rank test: real changes are told, noise is not, and the exit code says which."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from bench import compare
from bench.measurement import Measurement, Results, Roles, Sample, gather, load
from bench.rounds import Case, _Found, _rotated

ABOUT: dict[str, Any] = {"machine": "one", "warnings": []}

STEADY = (100.0, 101.0, 99.0, 102.0, 98.0)
LOWER = (90.0, 91.0, 89.0, 92.0, 88.0)


def measured(*values: float, system: str = "fastq", **more: Any) -> Measurement:
    return Measurement(workload="noop", system=system, measure="rate", unit="tasks/s", values=values, **more)


def results(*measurements: Measurement, size: str = "normal") -> Results:
    return Results(about=ABOUT, size=size, rounds=5, rounds_done=5, measurements=measurements)


def compared(tmp_path: Path, before: Results, after: Results) -> int:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    before.save(paths[0])
    after.save(paths[1])
    return compare.main([str(path) for path in paths])


def test_the_exact_test_agrees_with_counting_all_orders() -> None:
    before, after = [1.0, 2.0, 2.0, 5.0], [2.0, 6.0, 7.0]
    both = sorted(before + after)
    ranks = {value: both.index(value) + (both.count(value) + 1) / 2 for value in both}
    everything = [ranks[value] for value in before + after]
    expected = 4 * 8 / 2
    found = abs(sum(everything[:4]) - expected)
    sums = [sum(everything[i] for i in chosen) for chosen in itertools.combinations(range(7), 4)]
    wanted = sum(abs(one - expected) >= found for one in sums) / len(sums)
    assert compare.chance_of(before, after) == pytest.approx(wanted)


def test_five_rounds_apart_are_told_from_chance_and_four_are_not() -> None:
    assert compare.chance_of(STEADY, LOWER) == pytest.approx(2 / 252)
    assert compare.judge(measured(*STEADY), measured(*LOWER)).verdict == "worse"
    assert compare.judge(measured(*LOWER), measured(*STEADY)).verdict == "better"
    assert compare.judge(measured(*STEADY[:4]), measured(*LOWER)).verdict == "unknown"
    assert compare.judge(measured(*STEADY[:2]), measured(*LOWER[:2])).verdict == "unknown"


def test_less_is_better_where_the_measurement_says_so() -> None:
    slow, quick = measured(*STEADY, better="lower"), measured(*LOWER, better="lower")
    assert compare.judge(slow, quick).verdict == "better"


def test_a_clear_but_small_change_is_the_moments() -> None:
    assert compare.judge(measured(*STEADY), measured(*(value * 0.98 - 0.0 for value in STEADY))).verdict == "same"
    apart = measured(100.0, 100.1, 100.2, 100.3, 100.4), measured(99.0, 99.1, 99.2, 99.3, 99.4)
    assert compare.judge(*apart).verdict == "same"


def test_noise_alone_hardly_ever_counts() -> None:
    chance = random.Random(5)
    verdicts = [
        compare.judge(*(measured(*(chance.lognormvariate(4, 0.1) for _ in range(5))) for _ in range(2))).verdict
        for _ in range(400)
    ]
    assert sum(verdict != "same" for verdict in verdicts) <= 12


def test_the_exit_code_is_about_ours_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    celery, slower = measured(*STEADY, system="celery"), measured(*LOWER, system="celery")
    assert compared(tmp_path, results(measured(*STEADY), celery), results(measured(*STEADY), slower)) == 0
    assert "the machine itself was another" in capsys.readouterr().out
    assert compared(tmp_path, results(measured(*STEADY), celery), results(measured(*LOWER), celery)) == 1
    assert "worse    noop rate: fastq: 100 [98.0..102] -> 90.0" in capsys.readouterr().out


def test_losses_failures_and_what_is_missing_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = results(measured(*STEADY))
    for after, word in (
        (results(measured(*STEADY, lost=3)), "WRONG    noop rate: fastq: 3 lost, 0 repeated"),
        (results(measured(reason="TimeoutError: stuck")), "FAILED   noop rate: fastq: TimeoutError: stuck"),
        (results(), "missing  noop rate: fastq"),
    ):
        assert compared(tmp_path, before, after) == 1
        assert word in capsys.readouterr().out


def test_files_that_cannot_be_compared_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(tmp_path, results(), results(size="quick")) == 2
    assert "sizes 'normal'" in capsys.readouterr().err
    old = tmp_path / "old.json"
    old.write_text('{"about": {}, "lines": []}')
    assert compare.main([str(old), str(old)]) == 2
    assert "another format" in capsys.readouterr().err


def test_a_results_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    samples = [
        Sample(measure="rate", value=value, unit="tasks/s", better="higher", lost=1, cpu_us=Roles(engine=value))
        for value in STEADY
    ]
    kept = results(gather(samples, workload="noop", system="fastq"))
    kept.save(tmp_path / "kept.json")
    found = load(tmp_path / "kept.json")
    assert found == kept
    (one,) = found.measurements
    assert (one.median, one.low, one.high, one.lost) == (100.0, 98.0, 102.0, 5)
    assert one.cpu_us == Roles(engine=100.0)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_rounds_begin_with_another_case_and_a_case_that_fails_is_given_up() -> None:
    def fail() -> list[Sample]:
        raise RuntimeError("no")

    found = [_Found(Case(workload="noop", system=name, run=fail)) for name in "abcdef"]
    assert [_rotated(found, done, 3)[0].case.system for done in range(3)] == ["a", "c", "e"]
    for _ in range(2):
        assert found[0].open
        found[0].run()
    assert not found[0].open
    (one,) = found[0].measurements()
    assert (one.reason, one.values) == ("RuntimeError: no", ())
