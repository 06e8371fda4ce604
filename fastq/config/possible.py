"""Refuse options that are right each by itself and impossible together, before anything is begun."""

from __future__ import annotations

from fastq.config.settings import WorkerOptions
from fastq.errors import OptionError

#: Children of one worker; there are slots for twice as many, because a slot is needed for a while after its child.
MOST_CHILDREN = 256


def refuse_impossible(options: WorkerOptions) -> None:
    """Raises OptionError. What the application's settings add is not looked at."""
    if isinstance(options.concurrency, int):
        _refuse_too_many(options.concurrency, where=options.given.get("concurrency", "--concurrency"))
    if isinstance(options.autoscale, tuple):
        _refuse_too_many(options.autoscale[0], where=options.given.get("autoscale", "--autoscale"))
    soft, hard = options.max_memory_per_child, options.max_memory_hard
    if soft and hard and soft > hard:
        raise OptionError(
            f"--max-memory-per-child is {soft} KiB and --max-memory-hard {hard}: tasks would be ended before their "
            "child may be replaced. Make the hard limit the larger one"
        )


def _refuse_too_many(children: int, *, where: str) -> None:
    if children > MOST_CHILDREN:
        raise OptionError(f"{where}: a worker has {MOST_CHILDREN} children at most, got {children}; start more workers")
