"""Fixtures for pytest, there as soon as fastq is installed; see docs/guide/testing.md.

fastq_app      the application: override it in your conftest.py
fastq_eager    its tasks run where they are sent, at once
fastq_worker   a worker with two children, forked for one test
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.eager import Eager
    from fastq.testing.forked import ForkedWorker


@pytest.fixture
def fastq_app() -> FastQ:
    """The application under test. Override it: `@pytest.fixture def fastq_app(): return shop.app`."""
    raise pytest.UsageError("fastq_app is not overridden: return your FastQ application from a fixture of this name")


@pytest.fixture
def fastq_eager(fastq_app: FastQ) -> Iterator[Eager]:
    """Tasks run where they are sent; `fastq_eager.ran` has every attempt."""
    with fastq_app.testing() as eager:
        yield eager


@pytest.fixture
def fastq_children() -> int:
    """How many children `fastq_worker` has. Override it, or parametrize it."""
    return 2


@pytest.fixture
def fastq_worker(fastq_app: FastQ, fastq_children: int) -> Iterator[ForkedWorker]:
    """A worker of this test's own, forked now: patch what its tasks shall see before you ask for it."""
    with fastq_app.testing(children=fastq_children) as worker:
        yield worker
