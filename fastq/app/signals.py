"""What an application can listen to, under the names of `celery.signals`.

    from fastq import signals

    @signals.task_failure.connect
    def alert(sender, task_id, exception, **rest): ...

Signals of tasks are sent in the process that runs them, those of the worker in the nursery, those of sending where the
task is sent. An error in a receiver is logged, and nothing else suffers from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

logger: logging.Logger = logging.getLogger(__name__)

Receiver = TypeVar("Receiver", bound=Callable[..., Any])


class Signal:
    """One signal. `receivers` is empty as long as nobody listens, and nothing is spent on it then."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: (receiver, the sender whose signals it wants; None: all).
        self.receivers: list[tuple[Callable[..., Any], Any]] = []

    def __repr__(self) -> str:
        return f"<Signal {self.name}>"

    def connect(self, receiver: Receiver | None = None, *, sender: Any = None) -> Any:
        """Call `receiver(sender=..., **fields)` from now on; as a decorator, with or without arguments.

        `sender`: only for this one: a task, or its name. A receiver is held as long as the process lives.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender=sender)
        if (receiver, sender) not in self.receivers:
            self.receivers.append((receiver, sender))
        return receiver

    def disconnect(self, receiver: Callable[..., Any], *, sender: Any = None) -> bool:
        """Do not call it any more. False if it was not connected."""
        if (receiver, sender) not in self.receivers:
            return False
        self.receivers.remove((receiver, sender))
        return True

    def send(self, sender: Any, **fields: Any) -> None:
        """Call every receiver. What one raises is logged with its name; SystemExit and the like are let through."""
        for receiver, wanted in tuple(self.receivers):
            if wanted is not None and not _is_meant(wanted, sender):
                continue
            try:
                receiver(sender=sender, signal=self, **fields)
            except Exception:
                logger.exception("receiver %r of signal %s failed", receiver, self.name)


def _is_meant(wanted: Any, sender: Any) -> bool:
    # Tasks and applications are known by their names: where a task is announced by its name, and where the runner has
    # something in its place.
    if wanted is sender:
        return True
    name = getattr(sender, "name", sender)
    return name is not None and (wanted == name or getattr(wanted, "name", None) == name)


#: sender: the task's name; body: (args, kwargs, embed); headers: a dict that may be added to; routing_key: the queue.
before_task_publish: Signal = Signal("before_task_publish")
after_task_publish: Signal = Signal("after_task_publish")

#: sender: the task; task_id, args, kwargs. postrun besides: retval, state.
task_prerun: Signal = Signal("task_prerun")
task_postrun: Signal = Signal("task_postrun")
#: sender: the task; result.
task_success: Signal = Signal("task_success")
#: sender: the task; task_id, exception, args, kwargs, traceback, einfo (the traceback as text).
task_failure: Signal = Signal("task_failure")
#: sender: the task; request, reason, einfo.
task_retry: Signal = Signal("task_retry")
#: sender: the task; request, terminated, signum, expired.
task_revoked: Signal = Signal("task_revoked")
#: sender: None; name, id, message, exc.
task_unknown: Signal = Signal("task_unknown")
#: sender: None; message, exc.
task_rejected: Signal = Signal("task_rejected")

#: In the nursery; sender: the application.
worker_init: Signal = Signal("worker_init")
worker_ready: Signal = Signal("worker_ready")
worker_shutting_down: Signal = Signal("worker_shutting_down")
worker_shutdown: Signal = Signal("worker_shutdown")
worker_before_create_process: Signal = Signal("worker_before_create_process")
heartbeat_sent: Signal = Signal("heartbeat_sent")
#: In each child; sender: the application.
worker_process_init: Signal = Signal("worker_process_init")
worker_process_shutdown: Signal = Signal("worker_process_shutdown")
#: In nursery and children, instead of our own set-up of logging; loglevel, logfile, format.
setup_logging: Signal = Signal("setup_logging")
