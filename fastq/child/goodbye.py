"""End a child in order: tell the application, flush what observes it, run exit hooks, all within one deadline.

Nobody else flushes. Sentry and New Relic do it in loops of billiard's pool, which do not exist here, and Celery's own
children leave OpenTelemetry's last spans behind.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

from fastq.program import Program

logger: logging.Logger = logging.getLogger(__name__)

#: billiard's code for "has run its number of tasks".
EXIT_RECYCLE = 155
#: EX_SOFTWARE: an error of ours.
EXIT_BUG = 70

#: Seconds for everything together. Long enough for one HTTP request of an agent, short enough for a warm shutdown.
DEADLINE_S = 5.0
#: Seconds that one agent may take, so that the others have their turn.
AGENT_S = 2.0


def say_goodbye(program: Program, *, code: int) -> NoReturn:
    """Never returns, and takes no longer than DEADLINE_S."""
    timer = threading.Timer(DEADLINE_S, os._exit, (code,))
    timer.daemon = True
    try:
        timer.start()
        for step in (lambda: program.child_exit(code), flush_agents, atexit._run_exitfuncs, flush_streams):
            attempt(step)
    finally:
        os._exit(code)


def attempt(step: Callable[[], Any]) -> None:
    """A step that fails must not keep the next ones from running."""
    try:
        step()
    except (Exception, SystemExit):
        logger.exception("while a child was ending")


def flush_agents() -> None:
    """Let every agent that is loaded send what it still holds."""
    for name, flush in _AGENTS.items():
        if name in sys.modules:
            attempt(flush)


def _flush_sentry() -> None:
    sys.modules["sentry_sdk"].flush(timeout=AGENT_S)


def _flush_opentelemetry() -> None:
    # The API has no flush; a provider of the SDK has.
    for name, getter in (
        ("opentelemetry.trace", "get_tracer_provider"),
        ("opentelemetry.metrics", "get_meter_provider"),
        ("opentelemetry._logs", "get_logger_provider"),
    ):
        module = sys.modules.get(name)
        provider = getattr(module, getter)() if module is not None else None
        flush = getattr(provider, "force_flush", None)
        if flush is not None:
            attempt(lambda flush=flush: flush(int(AGENT_S * 1000)))  # type: ignore[misc]


def _flush_datadog() -> None:
    sys.modules["ddtrace"].tracer.flush()


def _flush_newrelic() -> None:
    sys.modules["newrelic.agent"].shutdown_agent(timeout=AGENT_S)


def _flush_elastic() -> None:
    client = sys.modules["elasticapm"].get_client()
    if client is not None:
        client.close()
    # Closing returns early if something was being sent at that moment: its thread ends when everything has been.
    for thread in threading.enumerate():
        if thread.name == "eapm event processor thread":
            thread.join(AGENT_S)


_AGENTS: dict[str, Callable[[], None]] = {
    "sentry_sdk": _flush_sentry,
    "opentelemetry": _flush_opentelemetry,
    "ddtrace": _flush_datadog,
    "newrelic.agent": _flush_newrelic,
    "elasticapm": _flush_elastic,
}


def flush_streams() -> None:
    """Write out what is buffered."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        flush = getattr(stream, "flush", None)
        if flush is not None:
            attempt(flush)


def forget_inherited_hooks() -> None:
    """In a new child: drop exit hooks registered before the fork. They belong to the nursery.

    A temporary folder that a module made while it was imported must not vanish with the first child that ends.
    Celery's children run no exit hooks at all.
    """
    from multiprocessing import util

    atexit._clear()
    for entry in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        entry.atexit = False
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    atexit.register(logging.shutdown)
    atexit.register(util._exit_function)  # type: ignore[attr-defined]
