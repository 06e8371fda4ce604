"""Which of Celery's integration tests are run, and which cannot apply to a worker in a process of its own, and why."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

#: Tests that are not run, by the reason: files, classes, or tests with all their parameters.
NOT_APPLICABLE: dict[str, list[str]] = {
    "they start a worker, a pool or a backend of Celery's own in the process of the test, and look inside it": [
        "test_backend_leak_in_fixture_teardown.py",
        "test_connection_recovery.py",
        "test_mem_leak_in_exception_handling.py",
        "test_request_backend_down.py",
        "test_worker.py::test_django_fixup_direct_worker",
        "test_worker.py::test_django_fixup_installs_django_task_for_celery_subclass",
        "test_worker.py::test_django_fixup_signals_only_handled_by_own_app",
    ],
    "they compare the worker's process with the test's: its pid, its table of revoked tasks": [
        "test_inspect.py::test_Inspect::test_hello_stamps_received_revoked_ids_locally",
        "test_inspect.py::test_Inspect::test_stats",
    ],
    "they start `celery worker` themselves, by that name": [
        "test_serialization.py",
        "test_worker.py::test_concurrency_auto_sizes_prefork_pool",
        "test_worker.py::test_run_worker",
    ],
    "the application in the worker would need the keys that the test makes; `celery worker` ends over its message": [
        "test_security.py",
    ],
    "the line that a task was received is the engine's, and log handlers of the application do not see it": [
        "test_tasks.py::test_trace_log_arguments",
    ],
    "they use no worker: result stores that are not Redis, Celery's own monitors, schedules and commands": [
        "test_backend.py",
        "test_cache_backend.py",
        "test_database_backend.py",
        "test_events_state_memory_leak.py",
        "test_logfile_format.py",
        "test_upgrade.py",
    ],
}

#: Tests that wait for the signal `task_received`. Their worker sends it on to the test; the others run without, because
#: a receiver of this signal takes shortcuts away from fastq.
SIGNALS = [
    "test_canvas.py::test_stamping_mechanism",
    "test_tasks.py::test_task_replacement",
    "test_tasks.py::test_signal_bound_method_receivers",
]


def not_applicable() -> list[str]:
    """All patterns of tests that are not run."""
    return [pattern for patterns in NOT_APPLICABLE.values() for pattern in patterns]


def is_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether a test is meant by one of the patterns: its name, its name without parameters, its class, its file."""
    return any(
        name == pattern or name.startswith((f"{pattern}[", f"{pattern}::")) or fnmatch.fnmatchcase(name, pattern)
        for pattern in patterns
    )
