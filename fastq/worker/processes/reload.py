"""Change the code under a running worker: a fresh nursery beside the old one, then child after child.

The old nursery and its children work on until the new one has loaded the application. If it cannot, nothing has
happened but a line in the log. If it can, each child is relieved by one of the new nursery (see `Children.replace`): no
message is lost, and there is no moment without children. Task numbers stay what they were, so that frames mean the same
to children of both; names that are new are known when no old child takes tasks any more, and their messages wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from fastq.program import ProgramInfo
from fastq.worker.processes.children import Children
from fastq.worker.processes.nursery import NurseryProcess
from fastq.worker.service import Service

logger: logging.Logger = logging.getLogger(__name__)

#: What an engine can take over while it runs, or need not know. Anything else needs a new engine.
MOVABLE = frozenset(
    {
        "app_name",
        "beat",
        "concurrency",
        "concurrency_auto",
        "eta_task_limit",
        "max_memory_per_child_kib",
        "max_tasks_per_child",
        "prefetch_multiplier",
        "revoked",
        "soft_shutdown_on_idle",
        "soft_shutdown_timeout_s",
        "soft_time_limit",
        "tasks",
        "time_limit",
        "version",
        "warnings",
    }
)


def unmovable(old: ProgramInfo, new: ProgramInfo) -> list[str]:
    """Names of what differs and cannot be changed while the engine runs."""
    one, other = _comparable(old), _comparable(new)
    return [name for name in one if name not in MOVABLE and one[name] != other[name]]


def _comparable(program: ProgramInfo) -> dict[str, object]:
    fields: dict[str, object] = {name: getattr(program, name) for name in program.__struct_fields__}
    for name in ("queues", "declared"):
        # A broadcast queue has a random name, and it says nothing.
        fields[name] = [
            msgspec.structs.replace(queue, name="") if queue.fanouts else queue for queue in getattr(program, name)
        ]
    return fields


class Reload:
    """One change of nursery at a time. The engine asks `under_way` and calls `pump` in each turn while it is."""

    def __init__(
        self,
        *,
        children: Children,
        start: Callable[[], NurseryProcess],
        change: Callable[[NurseryProcess, ProgramInfo], bool],
        settled: Callable[[], None],
        service: Service,
        ended: Callable[[bool], None],
    ) -> None:
        self._children, self._start, self._change, self._settled = children, start, change, settled
        self._service, self._ended = service, ended
        self._coming: NurseryProcess | None = None
        self._leaving: list[NurseryProcess] = []
        self._moving = False
        self._once_more = False

    @property
    def under_way(self) -> bool:
        """Whether names of tasks that nobody knows may soon be known."""
        return self._coming is not None or self._moving

    @property
    def needs_pump(self) -> bool:
        return self._moving or bool(self._leaving)

    def begin(self) -> None:
        """Load the application again, in a process of its own."""
        if self.under_way:
            logger.warning("A reload is under way; another one follows it.")
            self._once_more = True
            return
        self._once_more = False
        logger.warning("Loading the application again; the children work on meanwhile.")
        self._service.reloading()
        self._coming = self._start()

    def is_coming(self, nursery: NurseryProcess) -> bool:
        return nursery is self._coming

    def loaded(self, program: ProgramInfo, *, present: NurseryProcess) -> None:
        """The new nursery is ready: have it fork from now on, and relieve what the present one has forked."""
        nursery, self._coming = self._coming, None
        assert nursery is not None
        if not self._change(nursery, program):
            nursery.kill()
            return
        self._leaving.append(present)
        self._moving = True
        slots = self._children.born_of(present)
        logger.warning("The application is loaded (nursery pid:%s); relieving %d children.", nursery.pid, len(slots))
        for slot in slots:
            self._children.replace(slot)

    def refused(self, nursery: NurseryProcess) -> bool:
        """Whether a nursery that has ended is one of these, so that nothing has to be done about it."""
        if nursery is self._coming:
            self._coming = None
            logger.error("The application could not be loaded again; the worker goes on with what it has.")
            self._follow(well=False)
            return True
        if nursery in self._leaving:
            self._leaving.remove(nursery)
            self._children.orphaned(nursery, present=False)
            return True
        return False

    def pump(self) -> None:
        """Go on as far as possible."""
        if self._moving and not self._children.replacing:
            self._moving = False
            self._settled()
            logger.warning("Reloaded: all tasks are run by the new code from now on.")
            self._follow(well=True)
        for nursery in self._leaving:
            if nursery.alive and not nursery.stopping and not self._children.born_of(nursery):
                nursery.stop()

    def _follow(self, *, well: bool) -> None:
        self._ended(well)
        self._service.ready("working")
        if self._once_more:
            self.begin()

    def close(self) -> None:
        """The worker has stopped: end the nurseries besides the present one."""
        coming = [] if self._coming is None else [self._coming]
        for nursery in [*coming, *self._leaving]:
            nursery.kill()
