"""Run those of the application's worker steps that need nothing but the worker and its timer, in the nursery.

A step that touches a file for a probe is one; a step that wants Celery's pool, hub or consumer is not: there is none.
Timers of steps run in the nursery's own loop. No thread is started for them, since children are forked from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.worker.components import Timer as TimerStep
from kombu.asynchronous.timer import Timer
from kombu.utils.imports import symbol_by_name

if TYPE_CHECKING:
    from fastq.untyped import Untyped as BaseBlueprint
else:
    BaseBlueprint = bootsteps.Blueprint

#: Seconds after which the timers are looked at again whatever happens; as Celery's hub.
MOST_S = 10.0


class Blueprint(BaseBlueprint):
    """The application's own worker steps, as far as they can run here; none of Celery's."""

    name = "Worker"
    default_steps: frozenset[Any] = frozenset()

    def apply(self, parent: Any, **kwargs: Any) -> Any:
        """Make the steps and have them create what they create."""
        parent.timer = Timer(max_interval=MOST_S)
        # Kept as Celery keeps them: signals hold the methods that a step connects to them weakly.
        self.order: list[Any] = [step(parent, **kwargs) for step in self.types if runs_here(step)]
        self.steps: dict[Any, Any] = {step.name: step for step in self.order}
        self.ignored: list[str] = [str(step) for step in self.types if not runs_here(step)]
        for step in self.order:
            step.include(parent)
        return self

    def start(self, parent: Any) -> None:
        """Start them, before there are children. What a step raises ends the worker, as with Celery."""
        for step in parent.steps:
            step.start(parent)

    def stop(self, parent: Any) -> None:
        """Close and stop them; what a step raises is logged."""
        self.send_all(parent, "close", reverse=False, propagate=False)
        self.send_all(parent, "stop", propagate=False)


def runs_here(step: Any) -> bool:
    """Whether it is a step of a worker that requires at most the timer."""
    if not isinstance(step, type) or not issubclass(step, bootsteps.Step):
        return False
    return all(_is_timer(required) for required in getattr(step, "requires", ()))


def _is_timer(required: Any) -> bool:
    try:
        return symbol_by_name(required) is TimerStep
    except (ImportError, AttributeError, ValueError):
        return False


def run_due(timer: Timer) -> float | None:
    """Call what is due; the seconds until something is again, None if nothing waits."""
    for delay_s, entry in timer:
        if entry is None:
            return None if delay_s is None else float(delay_s)
        timer.apply_entry(entry)
    return None
