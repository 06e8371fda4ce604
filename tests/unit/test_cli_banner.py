"""The banner shows what Celery's shows, what is different, and no password."""

from __future__ import annotations

import msgspec
import pytest

import fastq
from fastq.cli.banner import banner, masked
from fastq.config.settings import WorkerOptions
from fastq.program import ProgramInfo, QueueInfo, ResultInfo, TaskInfo

PROGRAM = ProgramInfo(
    app_name="proj",
    loader="",
    node="w1@box",
    version="5.7.0",
    broker_shown="redis://:secret@box:6379/0",
    results=ResultInfo(shown="redis://user:secret@box:6379/1"),
    concurrency=4,
    queues=[
        QueueInfo(name="slow", exchange="slow", routing_key="slow"),
        QueueInfo(name="celery", exchange="celery", routing_key="celery"),
    ],
    tasks=[TaskInfo(name="proj.add"), TaskInfo(name="celery.chain")],
)


def draw(options: WorkerOptions | None = None, **changes: object) -> str:
    program = msgspec.structs.replace(PROGRAM, **changes)
    return banner(options or WorkerOptions(), program, platform="Linux", started="2026-01-02 03:04:05", lease_s=10.0)


def test_it_shows_what_celery_shows() -> None:
    lines = draw().splitlines()
    assert lines[0] == f"w1@box fastq {fastq.__version__} (celery 5.7.0)"
    assert "Linux 2026-01-02 03:04:05" in lines
    assert ".> app:         proj" in lines
    assert ".> transport:   redis://:**@box:6379/0" in lines
    assert ".> results:     redis://user:**@box:6379/1" in lines
    assert ".> task events: OFF" in lines
    assert lines[lines.index("[queues]") + 1 :] == [
        ".> celery           exchange=celery(direct) key=celery",
        ".> slow             exchange=slow(direct) key=slow",
    ]


def test_it_shows_what_is_different() -> None:
    given = {"pool_start_method": "--pool-start-method", "autoscale": "--autoscale"}
    text = draw(WorkerOptions(pool_start_method="spawn", autoscale=(3, 1), given=given))
    assert "concurrency: {min=1, max=3} (prefork" in text
    assert "prefetch:    auto (worker_prefetch_multiplier 4)" in text
    assert "leased for 10 s" in text
    assert "[not yet effective]\n.> --pool-start-method\n" in text


@pytest.mark.parametrize(("level", "shown"), [(30, []), (20, ["proj.add"]), (10, ["celery.chain", "proj.add"])])
def test_tasks_by_level(level: int, shown: list[str]) -> None:
    text = draw(loglevel=level)
    assert [line.removeprefix("  . ") for line in text.splitlines() if line.startswith("  . ")] == shown


def test_what_is_not_there_is_said() -> None:
    text = draw(results=ResultInfo(), version="", loader="l.Loader", disable_prefetch=True)
    assert "results:     disabled" in text
    assert "(native)" in text
    assert "app:         proj (l.Loader)" in text
    assert "prefetch:    off" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://box", "redis://box"),
        ("redis://:p@box/1", "redis://:**@box/1"),
        ("redis://:**@box/1", "redis://:**@box/1"),
        ("rediss://me:p%40ss@box/1?ssl_cert_reqs=none", "rediss://me:**@box/1?ssl_cert_reqs=none"),
        ("sentinel://:a@x:1;sentinel://:b@y:2/0", "sentinel://:**@x:1;sentinel://:**@y:2/0"),
        ("redis+socket:///run/redis.sock?virtual_host=1", "redis+socket:///run/redis.sock?virtual_host=1"),
        ("db+postgresql://me:p:q@box/d", "db+postgresql://me:**@box/d"),
        ("", ""),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
