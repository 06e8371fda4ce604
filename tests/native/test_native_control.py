"""What stock remote control is told by a native worker."""

from __future__ import annotations

from typing import Any

import celery
import msgspec
import pytest

from fastq.app.describe import describe
from fastq.config.settings import WorkerOptions
from tests.apps import native
from tests.fix_lab import Lab

pytestmark = pytest.mark.fastq_only


def test_a_native_worker_answers_what_celery_asks(shop: Lab) -> None:
    with celery.Celery(broker=shop.db.url) as client:

        def ask(command: str, **arguments: Any) -> Any:
            [reply] = client.control.broadcast(command, arguments=arguments, reply=True, limit=1, timeout=10)
            [answer] = reply.values()
            return answer

        assert ask("ping") == {"ok": "pong"}
        assert ask("active") == ask("reserved") == ask("scheduled") == []
        assert "tests.apps.native.add" in ask("registered")
        assert "tests.apps.native.hard [time_limit=0.3]" in ask("registered", taskinfoitems=["time_limit"])
        assert ask("conf")["broker_url"] == shop.db.url
        assert ask("conf", with_defaults=True)["worker_prefetch_multiplier"] == 4
        assert "software -> fastq:" in ask("report")["ok"]
        assert ask("query_task", ids=["nobody"]) == {}
        assert ask("stats")["pool"]["max-concurrency"] == 2
        assert ask("rate_limit", task_name="tests.apps.native.add", rate_limit="100/s")["ok"]
        assert ask("time_limit", task_name="tests.apps.native.add", hard=9, soft=8)["ok"]
        assert ask("add_consumer", queue="more")["ok"]
        assert "error" in ask("objgraph")


def test_an_option_that_only_celery_has_a_use_for_is_named() -> None:
    options = msgspec.structs.replace(WorkerOptions(), statedb="revoked.db", given={"statedb": "--statedb"})
    [warning] = describe(native.app, options, node="n@h").warnings
    assert warning.startswith("option --statedb means nothing to a native application: what `handle.cancel()`")
