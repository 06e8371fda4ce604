"""Which of Celery's integration tests are run, and which cannot apply to a worker in a process of its own, and why."""

from __future__ import annotations

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
    "they start `celery worker` themselves, by that name": [
        "test_worker.py::test_concurrency_auto_sizes_prefork_pool",
        "test_worker.py::test_run_worker",
    ],
    "they use no worker: result stores that are not Redis, and Celery's own monitors and commands": [
        "test_backend.py",
        "test_cache_backend.py",
        "test_database_backend.py",
        "test_events_state_memory_leak.py",
        "test_logfile_format.py",
        "test_upgrade.py",
    ],
}

#: What is run with every change: about a minute.
QUICK: list[str] = []
