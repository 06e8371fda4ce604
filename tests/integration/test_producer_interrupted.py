"""Sends that something comes between: handlers of signals that raise, forks, the end of the program, other loops."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from fastq.errors import BrokerRefused, BrokerUnavailable, BufferFull, NotConfirmed
from fastq.producer import AsyncProducer, Buffering, Producer, Replicas
from fastq.producer.compose import Push
from fastq.producer.line import Line
from fastq.producer.post import Lost, Post
from fastq.transport.connect import OpenConnection
from fastq.transport.urls import read_urls
from tests.fix_redis import Database, free_port


def run(script: str, *, within_s: float = 20) -> str:
    """What a program of its own says."""
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=within_s
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


INTERRUPTED = """
    import random, signal, time
    import redis
    from fastq import Buffering, Producer

    class Stop(Exception): pass
    def stop(*_): raise Stop
    producer = Producer({url!r}, buffer={buffer})
    producer.send("t.add"); producer.close()
    signal.signal(signal.SIGALRM, stop)
    sent, until = [], time.monotonic() + 1.5
    while time.monotonic() < until:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.00001 + random.random() * 0.002)
            for n in range(1000):
                sent.append(producer.send("t.add").id)
                if n % 50 == 49: producer.flush()
        except Stop:
            pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    producer.flush(5)
    import json
    client = redis.Redis.from_url({url!r})
    there = client.lrange("celery", 0, -1)
    ids = [json.loads(one)["headers"]["id"] for one in there]
    print(set(sent) <= set(ids), len(ids) - len(set(ids)) <= 100)
    print(sum(other["db"] == str({number}) for other in client.client_list()) < 40)
"""


@pytest.mark.parametrize("buffer", ["Buffering(max_delay_s=0.005)", "None"])
def test_handlers_of_signals_that_raise_lose_nothing_and_hold_nothing(db: Database, buffer: str) -> None:
    assert run(INTERRUPTED.format(url=db.url, number=db.number, buffer=buffer)).split() == ["True"] * 3


def test_children_forked_while_threads_begin_to_send_can_send(db: Database) -> None:
    script = f"""
        import os, signal, threading
        from fastq import Buffering, Producer

        buffered = Producer({db.url!r}, buffer=Buffering(max_delay_s=0.001))
        plain = Producer({db.url!r})
        threads = [threading.Thread(target=one.send, args=("t.add",)) for one in (buffered, plain)]
        for thread in threads: thread.start()
        children = []
        for _ in range(5):
            children.append(os.fork())
            if not children[-1]:
                signal.alarm(10)
                buffered.send("t.add"); plain.send("t.add")
                buffered.flush()
                os._exit(0)
        for thread in threads: thread.join()
        print([os.waitpid(child, 0)[1] for child in children])
    """
    assert run(script).strip() == str([0] * 5)
    assert len(db.entries("celery")) == 12


def test_what_is_sent_by_functions_of_atexit_is_sent(db: Database) -> None:
    script = f"""
        import atexit
        from fastq import Buffering, Producer

        atexit.register(lambda: producer.send("t.last"))
        producer = Producer({db.url!r}, buffer=Buffering(max_delay_s=60))
        atexit.register(lambda: producer.send("t.second"))
        producer.send("t.first")
    """
    run(script)
    assert len(db.entries("celery")) == 3


def test_who_sends_while_another_thread_closes_is_not_left_waiting(db: Database) -> None:
    producer = Producer(db.url, buffer=Buffering(max_delay_s=0.001))
    sent, over = [0, 0], threading.Event()

    def send(which: int) -> None:
        while not over.is_set():
            producer.send("t.add")
            sent[which] += 1

    threads = [threading.Thread(target=send, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        producer.close()
        time.sleep(0.001)
    over.set()
    for thread in threads:
        thread.join()
    producer.close()
    assert len(db.entries("celery")) == sum(sent)


def test_what_a_buffer_took_is_not_said_to_be_sent() -> None:
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    limits = Buffering(max_messages=1000, when_full="raise", close_s=0.0, on_error=lambda _error: None)
    producer = Producer(nobody, buffer=limits, retries=0)
    with pytest.raises(BufferFull) as told:
        producer.send_many("t.add", [((n,), None) for n in range(3000)])
    assert told.value.sent_ids == ()
    assert len(told.value.taken_ids) == 1000
    assert len(told.value.unsent_ids) == 500
    with pytest.raises(BrokerUnavailable):
        producer.close()


def test_a_message_that_was_found_after_a_loss_is_not_said_to_be_confirmed() -> None:
    push = Push("celery", [b"message"], ["an-id"])
    post = Post([push], retries=3, confirm=Replicas(1), where="the broker")
    post.lost(Lost("cut"), BrokerRefused)
    assert b"LPOS" in post.request()[0]

    post.answered([0, 1], BrokerRefused)  # Redis 7 counts all replicas for who has written nothing on this connection

    assert post.over
    with pytest.raises(NotConfirmed) as told:
        post.finish()
    assert told.value.sent_ids == ("an-id",)


def test_loops_of_several_threads_have_a_connection_each(db: Database) -> None:
    producer = AsyncProducer(db.url)
    problems: list[BaseException] = []
    before = int(db.client.info("stats")["total_connections_received"])

    async def send() -> None:
        for _ in range(50):
            await producer.send("t.add")
            await asyncio.sleep(0.001)
        await producer.close()

    def work() -> None:
        try:
            asyncio.run(send())
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(db.entries("celery")) == 150
    assert int(db.client.info("stats")["total_connections_received"]) - before <= 8


def test_a_timer_that_interrupts_again_and_again_does_not_make_a_silent_server_endless() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours, theirs = socket.create_connection(server.getsockname()), server.accept()[0]
        line = Line(OpenConnection(ours, address=read_urls("redis://127.0.0.1:1/0")[0]), timeout_s=0.5)
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        began = time.monotonic()
        try:
            with pytest.raises(Lost, match="no answer in time"):
                line.ask(b"PING", 1)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            theirs.close()
        assert time.monotonic() - began < 3
