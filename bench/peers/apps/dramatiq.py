"""Dramatiq: a broker on Redis; results by the middleware its documentation names, callbacks of groups by another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as Barriers
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.peers import work

broker = RedisBroker(url=work.URL)
broker.add_middleware(Results(backend=RedisBackend(url=work.URL)))
broker.add_middleware(GroupCallbacks(Barriers(url=work.URL)))
dramatiq.set_broker(broker)


def _actor(run: Callable[..., Any], **options: Any) -> Any:
    return dramatiq.actor(run, queue_name=work.QUEUE, **options)


noop = _actor(work.noop)
stored = _actor(work.stored, store_results=True)
nap = _actor(work.nap)
spin = _actor(work.spin, priority=10)
blob = _actor(work.blob, store_results=True)


@dramatiq.actor(queue_name=work.QUEUE, store_results=True)
def step(number: int, value: int = 0) -> int:
    """A pipeline puts what the one before returned behind the other arguments."""
    return work.step(value, number)


@dramatiq.actor(queue_name=work.QUEUE)
def finish(number: int) -> None:
    """The completion callback of a group; it gets no results of the members, so it can only say that they are there."""
    work.noop(number)
    broker.client.lpush(f"finished-{number}", "1")


#: Of the tasks that a process has fetched, it runs those of the lowest number first.
first = _actor(work.noop, actor_name="first", priority=0)

TASKS = {"noop": noop, "stored": stored, "nap": nap, "spin": spin, "blob": blob}


class Client:
    """Messages by `send`."""

    def fill(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        send = TASKS[task].send
        for number in numbers:
            send(number, *args)

    def fill_later(self, task: str, numbers: Sequence[int], due: float, *args: Any) -> None:
        for number in numbers:
            delay_ms = int((due - time.monotonic()) * 1000)
            TASKS[task].send_with_options(args=(number, *args), delay=delay_ms)

    def send(self, task: str, number: int, *args: Any) -> Any:
        return TASKS[task].send(number, *args)

    def urgent(self, task: str, number: int) -> None:
        first.send(number)

    def wait(self, handle: Any, timeout_s: float) -> Any:
        return handle.get_result(block=True, timeout=int(timeout_s * 1000))

    def chain(self, length: int, number: int, timeout_s: float) -> Any:
        links = dramatiq.pipeline([step.message(each) for each in range(number, number + length)])
        return links.run().get_result(block=True, timeout=int(timeout_s * 1000))

    def group(self, count: int, number: int, timeout_s: float) -> Any:
        members = dramatiq.group([stored.message(each) for each in range(number, number + count)])
        return list(members.run().get_results(block=True, timeout=int(timeout_s * 1000)))

    def chord(self, count: int, number: int, timeout_s: float) -> Any:
        members = dramatiq.group([stored.message(each) for each in range(number, number + count)])
        members.add_completion_callback(finish.message(number + count))
        members.run()
        if broker.client.blpop(f"finished-{number + count}", timeout=timeout_s) is None:
            raise TimeoutError(f"no completion of a group of {count} within {timeout_s:g} s")
        return sum(members.get_results(block=True, timeout=int(timeout_s * 1000)))


client = Client
