"""Tests with real children: `with app.testing(children=2):`. Tests without any need only `app.testing()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastq.app.eager import Eager, Ran
    from fastq.testing.forked import ForkedWorker

__all__ = ["Eager", "ForkedWorker", "Ran"]


def __getattr__(name: str) -> Any:
    # pytest imports this package for its plugin, in every run.
    if name == "ForkedWorker":
        from fastq.testing import forked

        return forked.ForkedWorker
    if name in ("Eager", "Ran"):
        from fastq.app import eager

        return getattr(eager, name)
    raise AttributeError(f"module 'fastq.testing' has no attribute {name!r}")
