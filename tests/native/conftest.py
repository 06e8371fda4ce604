"""Labs with a native application and a worker on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.apps import native
from tests.fix_lab import Lab


@pytest.fixture(scope="module")
def shop(module_lab: Lab) -> Iterator[Lab]:
    """A lab whose worker runs `tests.apps.native`; the application of this process sends to it."""
    module_lab.module = "tests.apps.native"
    native.app.conf.broker_url = native.app.conf.result_backend = module_lab.db.url
    module_lab.worker(concurrency=2)
    yield module_lab
    asyncio.run(native.app.aclose())
