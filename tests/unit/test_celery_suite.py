"""What the comparison of Celery's own tests makes of two runs. The tests themselves: `make celery-suite`."""

from __future__ import annotations

from pathlib import Path

from tests.celery_suite.choice import NOT_APPLICABLE, SIGNALS, is_any, not_applicable
from tests.celery_suite.quick import QUICK
from tests.celery_suite.run import Outcome, Results
from tests.celery_suite.verdict import owed, side_by_side

PAGE = Path(__file__).parents[2] / "docs" / "celery" / "compatibility.md"

PASSED, FAILED, SKIPPED = Outcome("passed"), Outcome("failed", why="assert 1 == 2"), Outcome("skipped")


def test_what_passes_with_celery_alone_is_owed() -> None:
    celery = Results("celery", {"both": PASSED, "lost": PASSED, "skipped": PASSED, "neither": FAILED, "gone": PASSED})
    fastq = Results("fastq", {"both": PASSED, "lost": FAILED, "skipped": SKIPPED, "neither": FAILED, "more": PASSED})
    assert owed(fastq, celery) == ["gone", "lost", "skipped"]


def test_a_report_shows_both_and_the_reasons() -> None:
    engines = [Results("fastq", {"a": PASSED, "b": FAILED}, {"a"}), Results("celery", {"a": PASSED, "b": PASSED})]
    text = side_by_side(engines, not_applicable={"it needs a moon": ["test_moon.py"]})
    assert "fastq worker     celery worker" in text
    assert "it needs a moon" in text
    assert "failed with fastq worker: b\n    assert 1 == 2" in text
    assert "failed once with fastq worker, passed alone: a" in text


def test_a_pattern_means_a_file_a_class_or_a_test_with_its_parameters() -> None:
    name = "test_a.py::test_class::test_one[2]"
    for pattern in ("test_a.py", "test_a.py::test_class", "test_a.py::test_class::test_one", name):
        assert is_any(name, [pattern])
    for pattern in ("test_a", "test_a.py::test_c", "test_a.py::test_class::test_on"):
        assert not is_any(name, [pattern])


def test_the_quick_choice_is_of_what_applies_and_needs_one_session() -> None:
    assert len(QUICK) > 100
    assert not [name for name in QUICK if is_any(name, [*not_applicable(), *SIGNALS])]
    assert all(NOT_APPLICABLE.values())


def test_the_page_names_what_is_not_run_and_why() -> None:
    page = " ".join(PAGE.read_text("utf-8").split()).lower()
    for reason, patterns in NOT_APPLICABLE.items():
        assert reason.lower() in page
        assert all(f"`{pattern.lower()}`" in page for pattern in patterns)
