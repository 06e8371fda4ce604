"""What an operator may change in a running worker: one method for each of Celery's control commands that does so.

Whoever answers remote control calls these and sends what they return: Celery's own replies, `{"ok": ...}` or
`{"error": ...}`. What Celery answers with an exception is raised here, too (ValueError, TypeError, KeyError): its reply
is `{"error": repr(error)}`. None of the methods blocks; what needs the broker is done afterwards, in the loop.
"""

from __future__ import annotations

import logging
import signal as signals
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from fastq.errors import SettingError
from fastq.program import ProgramInfo, QueueInfo, TaskInfo
from fastq.worker.cluster.consumers import Consumers
from fastq.worker.cluster.limits import Limits
from fastq.worker.cluster.revoking import Revoking
from fastq.worker.processes.children import Children
from fastq.worker.revoked import as_list

logger: logging.Logger = logging.getLogger("celery.worker.control")

Reply: TypeAlias = dict[str, Any]


class Actions:
    """Changes to one worker. Called by the engine's thread only."""

    def __init__(
        self,
        program: ProgramInfo,
        *,
        children: Children,
        limits: Limits,
        revoking: Revoking,
        consumers: Consumers,
        stop: Callable[[], None],
        reload: Callable[[], None],
    ) -> None:
        self._program, self._children = program, children
        self._limits, self._revoking, self._consumers = limits, revoking, consumers
        self._stop, self._reload = stop, reload

    # Queues

    @property
    def queues(self) -> list[QueueInfo]:
        """What is consumed now."""
        return list(self._consumers.queues)

    def add_consumer(
        self,
        queue: str,
        *,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Consume one more queue from now on: one that the application declares, or a new one.

        `options` are those of a queue on other brokers; here they have no effect.
        """
        self._consumers.add(queue, exchange=exchange, exchange_type=exchange_type, routing_key=routing_key)
        return {"ok": f"add consumer {queue}"}

    def cancel_consumer(self, queue: str) -> Reply:
        """Claim no more from a queue; what has been claimed still runs."""
        self._consumers.cancel(queue)
        return {"ok": f"no longer consuming from {queue}"}

    # Limits

    @property
    def tasks(self) -> Sequence[TaskInfo]:
        """The program's tasks, with the limits that hold now."""
        return self._limits.tasks

    def rate_limit(self, task: str, *, rate: str | float | None) -> Reply:
        """Hold a task to another rate; 0 or None for none."""
        try:
            if isinstance(rate, str) and rate:
                float(rate.partition("/")[0])  # Celery's words come from here
            number = self._limits.number(task)
            if number is None:
                logger.error("Rate limit attempt for unknown task %s", task)
                return {"error": "unknown task"}
            self._limits.set_rate(number, rate)
        except ValueError as error:
            return {"error": f"Invalid rate limit string: {error!r}"}
        except SettingError as error:
            return {"error": f"Invalid rate limit string: {error}"}
        if not rate:
            logger.info("Rate limits disabled for tasks of type %s", task)
            return {"ok": "rate limit disabled successfully"}
        logger.info("New rate limit for tasks of type %s: %s.", task, rate)
        return {"ok": "new rate limit set successfully"}

    def time_limit(self, task: str, *, hard: float | None = None, soft: float | None = None) -> Reply:
        """Give a task other time limits in seconds, for what has not been started; None for the worker's own."""
        number = self._limits.number(task)
        if number is None:
            logger.error("Change time limit attempt for unknown task %s", task)
            return {"error": "unknown task"}
        self._limits.set_time(number, soft=soft, hard=hard)
        logger.info("New time limits for tasks of type %s: soft=%s hard=%s", task, soft, hard)
        return {"ok": "time limits set successfully"}

    # Revoking

    def revoke(
        self, ids: str | Sequence[str] | None, *, terminate: bool = False, signal: str | int | None = None
    ) -> Reply:
        """Do not start these tasks; with `terminate`, end those that run by `signal` (SIGTERM)."""
        given = list(dict.fromkeys(str(task_id) for task_id in as_list(ids) if ids))
        running, held = self._revoking.revoke(given)
        if not terminate:
            logger.info("Tasks flagged as revoked: %s", ", ".join(given))
            return {"ok": f"tasks {set(given)} flagged as revoked"}
        signum = signal_number(signal)
        for task in running:
            self._revoking.terminate(task, signum)
        found = [*(task.header.id for task in running), *sorted(held)]
        return {"ok": f"terminate: {', '.join(found) or 'tasks unknown'}"}

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any] | Sequence[str],
        *,
        terminate: bool = False,
        signal: str | int | None = None,
    ) -> Reply:
        """The same for all tasks with one of these stamps: {header: stamp or stamps}, or ["header=stamp"]."""
        signum = signal_number(signal)
        if not isinstance(headers, Mapping):
            headers = {header.split("=")[0]: header.split("=")[1] for header in headers}
        self._revoking.revoke_stamps(headers)
        if not terminate:
            return {"ok": f"headers {headers} flagged as revoked, but not terminated"}
        ended: dict[str, set[Any]] = defaultdict(set)  # its name is in Celery's answer
        for task, carried in self._revoking.stamped(headers):
            self._revoking.terminate(task, signum)
            for header, stamps in carried.items():
                ended[header] |= stamps
        if not ended:
            return {"ok": f"headers {headers} were not terminated"}
        return {"ok": f"headers {ended} revoked"}

    def terminate(self, ids: str | Sequence[str] | None, *, signal: str | int | None = None) -> Reply:
        """As `revoke` with `terminate`."""
        return self.revoke(ids, terminate=True, signal=signal)

    def revoked(self) -> list[str]:
        """The ids that are revoked, oldest first: for `inspect revoked`, and for a worker that says hello."""
        self._revoking.revoked.purge()
        return self._revoking.revoked.ids

    def merge_revoked(self, ids: Iterable[str] | None) -> None:
        """Revoke what other workers say is revoked (mingle): ids, oldest first, or a mapping of them."""
        self._revoking.merge(list(ids or ()))

    # Children

    def pool_grow(self, n: int = 1) -> Reply:
        """Have `n` more children."""
        wanted = self._children.wanted + int(n)
        if wanted > self._children.most:
            raise ValueError(f"{wanted} processes are more than this worker can have, {self._children.most}")
        self._children.keep(wanted)
        return {"ok": "pool will grow"}

    def pool_shrink(self, n: int = 1) -> Reply:
        """Have `n` fewer children, one at least: idle ones leave now, busy ones after their task."""
        if self._children.wanted - int(n) < 1:
            raise ValueError(f"Can't shrink pool by {n}: it has {self._children.wanted}, and one has to stay")
        self._children.shrink(int(n))
        return {"ok": "pool will shrink"}

    def pool_restart(
        self, *, modules: Sequence[str] | None = None, reload: bool = False, reloader: object = None
    ) -> Reply:
        """Replace all children, each when another is ready and after the task that it runs (`worker_pool_restarts`).

        With `reload` or `modules` the application is loaded again before, whole, in a process of its own: there is no
        module that would have to be named, and no need for a `reloader`.
        """
        if not self._program.pool_restarts:
            raise ValueError("Pool restarts not enabled")
        if reload or modules:
            self._reload()
        else:
            for slot in self._children.slots:
                self._children.replace(slot)
        return {"ok": "reload started"}

    # The worker

    def shutdown(self, *, msg: str = "Got shutdown from remote") -> None:
        """Stop the worker as TERM would. Never answers, as with Celery."""
        logger.warning("%s", msg)
        self._stop()


def signal_number(name: str | int | None) -> int:
    """A signal by its name in capitals, with or without SIG, or by its number; None is SIGTERM. As Celery reads it."""
    if isinstance(name, int):
        return name
    name = name or "SIGTERM"
    if not name.isupper():
        raise TypeError("signal name must be uppercase string.")
    found: int = getattr(signals, name if name.startswith("SIG") else f"SIG{name}")
    return found
