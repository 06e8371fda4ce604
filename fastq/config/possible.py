"""Refuse options that nobody knows, and those that are right each by itself and impossible together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fastq.config.settings import SETTINGS, WorkerOptions
from fastq.errors import OptionError

#: Children of one worker; there are slots for twice as many, because a slot is needed for a while after its child.
MOST_CHILDREN = 256

#: Likeness from which on a word counts as a slip of another: `queue` for `queues` does, `nope` for `purge` does not.
NEAR = 0.75

SEE_HELP = "see `fastq worker --help`"


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


def no_such_option(flag: str) -> OptionError:
    """The error for an option that neither fastq nor the application has."""
    flags = {each.lstrip("-"): each for setting in SETTINGS.values() for each in setting.flags}
    meant = nearest(flag.partition("=")[0].lstrip("-"), flags)
    return OptionError(f"there is no option {flag}; {f'did you mean {flags[meant]}?' if meant else SEE_HELP}")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that this may be a slip of, if there is one: a far one would be no help."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=NEAR)), None)


def _refuse_too_many(children: int, *, where: str) -> None:
    if children > MOST_CHILDREN:
        raise OptionError(f"{where}: a worker has {MOST_CHILDREN} children at most, got {children}; start more workers")
