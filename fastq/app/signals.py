"""What an application can listen to, under the names of `celery.signals`.

    from fastq import signals

    @signals.task_failure.connect
    def alert(sender, task_id, exception, **rest): ...

Signals of tasks are sent in the process that runs them, those of the worker in the nursery, those of sending where the
task is sent. An error in a receiver is logged, and nothing else suffers from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeVar, overload

from fastq.errors import OptionError

logger: logging.Logger = logging.getLogger(__name__)

Receiver = TypeVar("Receiver", bound=Callable[..., Any])


class Signal:
    """One signal. `receivers` is empty as long as nobody listens, and nothing is spent on it then."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: (receiver, the sender whose signals it wants; None: all; the `dispatch_uid` it was connected with, or None).
        self.receivers: list[tuple[Callable[..., Any], Any, Hashable]] = []

    def __repr__(self) -> str:
        return f"<Signal {self.name}>"

    @overload
    def connect(
        self, receiver: Receiver, *, sender: Any = None, weak: Literal[False] = False, dispatch_uid: Hashable = None
    ) -> Receiver: ...
    @overload
    def connect(
        self, *, sender: Any = None, weak: Literal[False] = False, dispatch_uid: Hashable = None
    ) -> Callable[[Receiver], Receiver]: ...
    def connect(
        self,
        receiver: Callable[..., Any] | None = None,
        *,
        sender: Any = None,
        weak: bool = False,
        dispatch_uid: Hashable = None,
    ) -> Any:
        """Call `receiver(sender=..., **fields)` from now on; as a decorator, with or without arguments.

        `sender`: only for this one: a task, or its name. `dispatch_uid`: a name for the connection, by which it is made
        once for each sender, whatever function comes with it, and can be disconnected. A receiver is held until it is
        disconnected, which is what `weak=False` says in Celery; raises OptionError for `weak=True`.
        """
        if weak:
            raise OptionError(
                f"weak=True: receivers of {self.name} are held, none goes away by itself; leave it out, and call "
                "disconnect when the receiver is not wanted any more"
            )
        if receiver is None:
            return lambda function: self.connect(function, sender=sender, dispatch_uid=dispatch_uid)
        if not callable(receiver):
            raise OptionError(f"a receiver of {self.name} is to be a function, not {receiver!r:.200}")
        if self._place(receiver, sender, dispatch_uid) is None:
            self.receivers.append((receiver, sender, dispatch_uid))
        return receiver

    def disconnect(
        self, receiver: Callable[..., Any] | None = None, *, sender: Any = None, dispatch_uid: Hashable = None
    ) -> bool:
        """Do not call it any more: the one with this `dispatch_uid`, or this function if it was connected without.
        False if it was not connected."""
        place = self._place(receiver, sender, dispatch_uid)
        if place is None:
            return False
        del self.receivers[place]
        return True

    def _place(self, receiver: Callable[..., Any] | None, sender: Any, uid: Hashable) -> int | None:
        """Where a connection is in the list: a uid stands for the function."""
        for place, (function, wanted, known) in enumerate(self.receivers):
            if known == uid and wanted == sender and (uid is not None or function == receiver):
                return place
        return None

    def send(self, sender: Any, **fields: Any) -> None:
        """Call every receiver. What one raises is logged with its name; SystemExit and the like are let through."""
        for receiver, wanted, _ in tuple(self.receivers):
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


#: sender: the task's name; body: (args, kwargs, embed); headers: id, task, root_id, parent_id and those of the call, a
#: dict that may be added to before; routing_key: the queue. Not sent of retries, whose headers are the first attempt's.
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
