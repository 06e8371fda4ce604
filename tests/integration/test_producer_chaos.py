"""Connections are cut all the time, before and after an answer; what a producer says of each task is true."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fastq.errors import BrokerError
from fastq.producer import AsyncProducer, Buffering, Producer
from tests.fix_proxy import Proxy
from tests.fix_redis import Database

#: Seconds of each test.
LASTS_S = 1.0


class Said:
    """What a producer has said of the tasks that it was given."""

    def __init__(self, *, lasts_s: float) -> None:
        self.until = time.monotonic() + lasts_s
        self.sent: list[str] = []
        self.unsent: set[str] = set()
        self.unknown: set[str] = set()

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until

    def note(self, error: BrokerError) -> None:
        """Take what an error says."""
        self.sent += error.sent_ids
        self.unsent |= set(error.unsent_ids)
        self.unknown |= set(error.unknown_ids)

    def check(self, db: Database) -> None:
        """Compare with what is there: nobody has taken anything, so nothing may be there twice."""
        there = Counter(json.loads(entry)["headers"]["id"] for entry in db.entries())
        assert self.sent, "not one was sent"
        assert not set(self.sent) - set(there)
        assert not self.unsent & set(there)
        assert not set(there) - set(self.sent) - self.unknown
        assert max(there.values()) == 1


@contextmanager
def trouble(proxy: Proxy, said: Said) -> Iterator[None]:
    """Cut, refuse and swallow at random until the time is over."""

    def make() -> None:
        while said.goes_on:
            time.sleep(random.random() * 0.03)
            kind = random.choice(["cut", "answer", "answer", "away"])
            if kind == "answer":
                proxy.cut_answer_to(b"LPUSH", times=random.randint(1, 3))
                continue
            proxy.turns_away = kind == "away"
            proxy.cut()
            time.sleep(random.random() * 0.1)
            proxy.turns_away = False

    thread = threading.Thread(target=make)
    thread.start()
    yield
    thread.join()
    proxy.cut_answer_to(b"LPUSH", times=0)


def in_threads(work: Callable[[], None], *, count: int) -> None:
    """Let some threads do the same."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def said() -> Said:
    """Nothing yet."""
    return Said(lasts_s=LASTS_S)


def test_a_producer_of_many_threads(db: Database, proxy: Proxy, said: Said) -> None:
    with Producer(proxy.url(number=db.number), retries=1, timeout_s=1) as producer:

        def work() -> None:
            while said.goes_on:
                try:
                    said.sent.append(producer.send("t.add").id)
                    said.sent += producer.send_many("t.add", [((n,), None) for n in range(20)], chunk=7)
                except BrokerError as error:
                    said.note(error)

        with trouble(proxy, said):
            in_threads(work, count=3)
    said.check(db)


def test_a_producer_of_many_coroutines(db: Database, proxy: Proxy, said: Said) -> None:
    async def work(producer: AsyncProducer) -> None:
        while said.goes_on:
            try:
                said.sent.append((await producer.send("t.add")).id)
                said.sent += await producer.send_many("t.add", [((n,), None) for n in range(20)], chunk=7)
            except BrokerError as error:
                said.note(error)

    async def run() -> None:
        async with AsyncProducer(proxy.url(number=db.number), retries=1, timeout_s=1) as producer:
            await asyncio.gather(*(work(producer) for _ in range(8)))

    with trouble(proxy, said):
        asyncio.run(run())
    said.check(db)


def test_a_buffer(db: Database, proxy: Proxy, said: Said) -> None:
    limits = Buffering(max_delay_s=0.002, max_messages=1000, when_full="raise", close_s=20)
    with Producer(proxy.url(number=db.number), timeout_s=1, buffer=limits) as producer:

        def work() -> None:
            while said.goes_on:
                try:
                    said.sent.append(producer.send("t.add").id)
                except BrokerError as error:
                    said.note(error)
                    time.sleep(0.01)

        with trouble(proxy, said):
            in_threads(work, count=3)
    said.check(db)
