"""The banner shows what Celery's shows, what is different, and no password."""

from __future__ import annotations

import msgspec
import pytest

from fastq.cli.banner import Facts, Queue, banner, masked
from fastq.config.settings import WorkerOptions

FACTS = Facts(
    version="0.1.0",
    celery="5.7.0",
    node="w1@box",
    app="proj",
    transport="redis://:secret@box:6379/0",
    results="redis://user:secret@box:6379/1",
    concurrency=4,
    lease_s=10.0,
    queues=(
        Queue(name="slow", exchange="slow", routing_key="slow"),
        Queue(name="celery", exchange="celery", routing_key="celery"),
    ),
    tasks=("proj.add", "celery.chain"),
    platform="Linux",
    started="2026-01-02 03:04:05",
)


def test_it_shows_what_celery_shows() -> None:
    lines = banner(WorkerOptions(), FACTS).splitlines()
    assert lines[0] == "w1@box fastq 0.1.0 (celery 5.7.0)"
    assert ".> app:         proj" in lines
    assert ".> transport:   redis://:**@box:6379/0" in lines
    assert ".> results:     redis://user:**@box:6379/1" in lines
    assert ".> task events: OFF" in lines
    assert lines[lines.index("[queues]") + 1 :] == [
        ".> celery           exchange=celery(direct) key=celery",
        ".> slow             exchange=slow(direct) key=slow",
    ]


def test_it_shows_what_is_different() -> None:
    options = WorkerOptions(beat=True, autoscale=(3, 1), given={"beat": "--beat", "autoscale": "--autoscale"})
    text = banner(options, FACTS)
    assert "prefetch:    auto" in text
    assert "leased for 10 s" in text
    assert "[not yet effective]\n.> --autoscale, --beat\n" in text


@pytest.mark.parametrize(("level", "shown"), [("WARNING", ()), ("INFO", ("proj.add",)), ("DEBUG", FACTS.tasks)])
def test_tasks_by_level(level: str, shown: tuple[str, ...]) -> None:
    text = banner(WorkerOptions(loglevel=level, given={"loglevel": "--loglevel"}), FACTS)
    assert [line.removeprefix("  . ") for line in text.splitlines() if line.startswith("  . ")] == sorted(shown)


def test_what_is_not_there_is_said() -> None:
    text = banner(WorkerOptions(), msgspec.structs.replace(FACTS, results="", celery="", prefetch_multiplier=2))
    assert "results:     disabled" in text
    assert "(native)" in text
    assert "prefetch:    2 for each child" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://box", "redis://box"),
        ("redis://:p@box/1", "redis://:**@box/1"),
        ("rediss://me:p%40ss@box/1?ssl_cert_reqs=none", "rediss://me:**@box/1?ssl_cert_reqs=none"),
        ("sentinel://:a@x:1;sentinel://:b@y:2/0", "sentinel://:**@x:1;sentinel://:**@y:2/0"),
        ("redis+socket:///run/redis.sock?virtual_host=1", "redis+socket:///run/redis.sock?virtual_host=1"),
        ("db+postgresql://me:p:q@box/d", "db+postgresql://me:**@box/d"),
        ("", ""),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
