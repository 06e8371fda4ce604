"""Celery, for stock Celery and for fastq behind a Celery client: the application is `bench.apps.tasks`."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from typing import Any

from celery import chain, chord, group

from bench.apps import tasks
from bench.peers import work
from fastq.producer import Producer

#: Read last by Celery's Redis transport, where 0 is the most urgent.
LAST = 9


class Client:
    """`apply_async` and `get`. A backlog is put there by fastq's producer, which writes what Celery writes."""

    def __init__(self) -> None:
        self.bulk = Producer(work.URL, queue=work.QUEUE)

    def fill(self, task: str, numbers: Sequence[int], *args: Any, **options: Any) -> None:
        many = (((number, *args), None) for number in numbers)
        for _ in self.bulk.send_chunks(f"bench.apps.tasks.{task}", many, **options):
            pass

    def send_many(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        """The fastest that Celery and kombu can do together: `apply_async` inside a batch of kombu's."""
        known = tasks.app.tasks[f"bench.apps.tasks.{task}"]
        with tasks.app.producer_or_acquire() as producer, producer.batch():
            for number in numbers:
                known.apply_async((number, *args), producer=producer)

    def fill_later(self, task: str, numbers: Sequence[int], due: float, *args: Any) -> None:
        eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=due - time.monotonic())
        self.fill(task, numbers, *args, eta=eta)

    def fill_last(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        self.fill(task, numbers, *args, priority=LAST)

    def urgent(self, task: str, number: int, *args: Any) -> None:
        self.send(task, number, *args)

    def send(self, task: str, number: int, *args: Any) -> Any:
        return tasks.app.tasks[f"bench.apps.tasks.{task}"].delay(number, *args)

    def wait(self, handle: Any, timeout_s: float) -> Any:
        return handle.get(timeout=timeout_s)

    def chain(self, length: int, number: int, timeout_s: float) -> Any:
        links = [tasks.step.s(0, number), *(tasks.step.s(number + more) for more in range(1, length))]
        return chain(*links).delay().get(timeout=timeout_s)

    def group(self, count: int, number: int, timeout_s: float) -> Any:
        return group(tasks.stored.s(each) for each in range(number, number + count)).delay().get(timeout=timeout_s)

    def chord(self, count: int, number: int, timeout_s: float) -> Any:
        members = [tasks.stored.s(each) for each in range(number, number + count)]
        return chord(members)(tasks.total.s(number + count)).get(timeout=timeout_s)


client = Client
