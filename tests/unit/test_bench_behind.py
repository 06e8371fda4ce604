"""Rows in which another system is better than fastq are found in the results, not chosen."""

from __future__ import annotations

from bench import behind
from bench.measurement import Better, Measurement, Results, Roles


def measured(system: str, *values: float, better: Better = "lower", cpu: float = 0.0) -> Measurement:
    return Measurement(
        workload="calls",
        measure="p50",
        system=system,
        values=values,
        better=better,
        unit="ms",
        cpu_us=Roles(engine=cpu) if cpu else None,
    )


def rows(*ones: Measurement) -> list[tuple[str, str, list[str]]]:
    found = Results(about={}, size="full", rounds=3, measurements=ones)
    return [(row.measure, row.ours.system, [one.system for one in row.others]) for row in behind.behind(found)]


def test_a_row_is_behind_when_all_rounds_of_another_are_better_than_our_best_form() -> None:
    ours = measured("fastq", 1.0, 1.1), measured("fastq-native", 0.8, 0.9)
    assert rows(*ours, measured("saq", 0.5, 0.6), measured("arq", 0.4, 0.5), measured("rq", 0.95, 0.99)) == [
        ("p50", "fastq-native", ["arq", "saq"])
    ]


def test_what_overlaps_is_noise_and_one_round_has_to_be_clearer() -> None:
    assert rows(measured("fastq", 1.0, 1.2), measured("saq", 0.9, 1.1)) == []
    assert rows(measured("fastq", 1.0), measured("saq", 0.95)) == []
    assert rows(measured("fastq", 1.0), measured("saq", 0.8)) != []
    assert rows(measured("fastq", 90.0, 91.0, better="higher"), measured("saq", 99.0, 98.0, better="higher")) != []


def test_the_floor_and_other_agents_are_no_rivals() -> None:
    assert rows(measured("fastq", 1.0, 1.0), measured("floor", 0.1, 0.1)) == []
    assert rows(measured("fastq+sentry", 9.0, 9.0), measured("celery", 1.0, 1.0)) == []
    assert rows(measured("fastq+sentry", 9.0, 9.0), measured("celery+sentry", 1.0, 1.0)) != []


def test_processor_time_is_compared_too() -> None:
    assert rows(measured("fastq", 1.0, cpu=9.0), measured("saq", 2.0, cpu=5.0)) == [(behind.CPU, "fastq", ["saq"])]


def test_every_row_has_its_reason_or_says_that_it_has_none() -> None:
    found = Results(about={}, size="full", rounds=1, measurements=(measured("fastq", 9.0), measured("saq", 2.0)))
    assert "| calls: p50 | fastq: 9.00 ms | saq: 2.00 ms | *not explained yet* |" in behind.section([found])
    assert behind.section([]) == "In no row, beyond noise."
