"""Show how far something is: a bar by rich where it is installed, a line per step where it is not."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

#: Seconds between two plain lines.
PLAIN_S = 1.0


@contextlib.contextmanager
def progress(title: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how many are done by now."""
    fancy = importlib.util.find_spec("rich") is not None and sys.stdout.isatty()
    with (_rich if fancy else _plain)(title, total=total) as show:
        yield show
        show(total)


@contextlib.contextmanager
def _rich(title: str, *, total: int) -> Iterator[Callable[[int], None]]:
    parts: Any = importlib.import_module("rich.progress")
    columns = [
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.MofNCompleteColumn(),
        parts.TimeElapsedColumn(),
    ]
    with parts.Progress(*columns) as bar:
        task = bar.add_task(title.ljust(52), total=total)
        yield lambda done: bar.update(task, completed=done)


@contextlib.contextmanager
def _plain(title: str, *, total: int) -> Iterator[Callable[[int], None]]:
    shown_at, shown = time.monotonic(), 0

    def show(done: int) -> None:
        nonlocal shown_at, shown
        if done != shown and (done == total or time.monotonic() - shown_at >= PLAIN_S):
            shown_at, shown = time.monotonic(), done
            print(f"{title}: {done:,} of {total:,}", flush=True)

    yield show
