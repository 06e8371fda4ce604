"""On a debug build, every test ends with no memory left in the core."""

from __future__ import annotations

import gc

import pytest

from fastq import _core


def _left(session: pytest.Session) -> int:
    # A test that failed keeps its objects: its traceback is still to be shown.
    if not _core.DEBUG or session.testsfailed:
        return 0
    gc.collect()
    return _core.alive()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Whatever is there before anything has been set up was left by the test before."""
    left = _left(item.session)
    assert left == 0, f"the test before this one has left {left} blocks of memory in the core"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The last test has none behind it."""
    if left := _left(session):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nThe last test has left {left} blocks of memory in the core.")
