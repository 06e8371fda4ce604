"""Messages that are collected: in time, in order, within bounds, at the end of the program, and in no child's hands."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

from fastq.errors import BrokerError, BrokerFull, BrokerRefused, BrokerUnavailable, BufferFull, OptionError
from fastq.producer import Buffering, Producer, Replicas
from tests.eventually import eventually
from tests.fix_proxy import Proxy
from tests.fix_redis import Database, RedisServer, free_port


def ids(db: Database, queue: str = "celery") -> list[str]:
    """Ids of the messages in the queue, in the order in which they were sent."""
    return [json.loads(entry)["headers"]["id"] for entry in db.entries(queue)]


def test_messages_go_after_the_delay_in_their_order(db: Database) -> None:
    with Producer(db.url, buffer=Buffering(max_delay_s=0.01)) as producer:
        sent = [producer.send("t.add", (n,)).id for n in range(100)]
        eventually(lambda: ids(db) == sent, within_s=5, saying="all have been sent, in order")


def test_what_is_sent_by_many_threads_arrives_once(db: Database) -> None:
    sent: list[str] = []
    with Producer(db.url, buffer=Buffering(max_delay_s=0.001)) as producer:

        def send() -> None:
            sent.extend(producer.send("t.add", (n,), queue=f"q{n % 2}").id for n in range(500))

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(ids(db, "q0") + ids(db, "q1")) == sorted(sent)


def test_flush_and_close_send_at_once(db: Database) -> None:
    with Producer(db.url, buffer=Buffering(max_delay_s=60)) as producer:
        first = producer.send("t.add").id
        producer.flush()
        assert ids(db) == [first]
        second = producer.send("t.add").id
    assert ids(db) == [first, second]


def test_a_full_buffer_raises_or_blocks_as_chosen() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    for when_full, least_s in (("raise", 0.0), ("block", 0.2)):
        limits = Buffering(max_messages=3, when_full=when_full, block_s=0.2, close_s=0)  # type: ignore[arg-type]
        producer = Producer(url, buffer=limits)
        kept = [producer.send("t.add").id for _ in range(3)]
        start = time.monotonic()
        with pytest.raises(BufferFull, match="1 more were not taken") as caught:
            producer.send("t.add")
        assert time.monotonic() - start >= least_s
        assert len(caught.value.unsent_ids) == 1
        with pytest.raises(BrokerUnavailable, match="3 messages are in the buffer") as given_up:
            producer.close()
        assert list(given_up.value.unsent_ids) == kept


def test_a_full_buffer_is_sent_without_waiting_for_its_delay(db: Database) -> None:
    with Producer(db.url, buffer=Buffering(max_delay_s=60, max_messages=10, block_s=5)) as producer:
        sent = [producer.send("t.add", (n,)).id for n in range(35)]
    assert ids(db) == sent


@pytest.mark.parametrize(
    "limits", [{"max_messages": 0}, {"max_delay_s": -1}, {"when_full": "drop"}, {"block_s": None}, {"max_bytes": True}]
)
def test_bounds_that_mean_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(limits))):
        Buffering(**limits)


def test_bytes_are_bounded_too() -> None:
    limits = Buffering(max_bytes=10_000, when_full="raise", close_s=0)
    producer = Producer(f"redis://127.0.0.1:{free_port()}/0", buffer=limits)
    producer.send("t.add", ("x" * 20_000,))  # alone it is let in
    with pytest.raises(BufferFull):
        producer.send("t.add")
    with pytest.raises(BrokerUnavailable):
        producer.close()


def test_messages_outlive_an_outage(db: Database, proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    errors: list[BrokerError] = []
    with Producer(proxy.url(number=db.number), buffer=Buffering(max_delay_s=0.001, on_error=errors.append)) as producer:
        sent = [producer.send("t.add").id]
        producer.flush()
        proxy.refuse()
        proxy.cut()
        sent += [producer.send("t.add", (n,)).id for n in range(20)]
        eventually(lambda: len(errors) >= 2, saying="two attempts have failed and were told")
        proxy.accept()
        eventually(lambda: ids(db) == sent, saying="all are there, once, in order")
    assert all(isinstance(error, BrokerUnavailable) for error in errors)


def test_an_answer_that_is_lost_does_not_double_what_was_sent(db: Database, proxy: Proxy) -> None:
    with Producer(proxy.url(number=db.number), buffer=Buffering(max_delay_s=0.01)) as producer:
        proxy.cut_answer_to(b"LPUSH")
        sent = [producer.send("t.add", (n,), queue=f"q{n % 2}").id for n in range(10)]
    assert ids(db, "q0") == sent[::2]
    assert ids(db, "q1") == sent[1::2]


def test_one_key_that_refuses_does_not_hold_up_the_others(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    db.client.set("odd", "no list")
    producer = Producer(db.url, buffer=Buffering(max_delay_s=0.001, close_s=0))
    with caplog.at_level(logging.WARNING, "fastq.producer"):
        bad = producer.send("t.add", queue="odd").id
        good = [producer.send("t.add").id for _ in range(3)]
        eventually(lambda: ids(db) == good, saying="the others were sent")
        with pytest.raises(BrokerRefused, match="WRONGTYPE") as caught:
            producer.close()
    assert caught.value.unsent_ids == (bad,)
    assert f"the producer gives up, tasks not sent: {bad}" in caplog.text
    assert caplog.text.count("are tried again") == 1


def test_a_full_redis_delays_and_loses_nothing() -> None:
    server = RedisServer()
    server.start()
    try:
        client = server.client()
        client.config_set("maxmemory", "1")
        with Producer(server.url(), buffer=Buffering(max_delay_s=0.001)) as producer:
            producer.send("t.add")
            with pytest.raises(BrokerFull):
                producer.flush()
            client.config_set("maxmemory", "0")
        assert client.llen("celery") == 1
        client.close()
    finally:
        server.remove()


def test_a_confirmation_and_a_buffer_are_refused_together(db: Database) -> None:
    with pytest.raises(OptionError, match="choose one"):
        Producer(db.url, buffer=Buffering(), confirm=Replicas(1))


#: A program that sends and ends without a word, in one of several ways.
PROGRAM = """
    import os, sys
    from fastq.producer import Buffering, Producer

    producer = Producer(sys.argv[1], buffer=Buffering(max_delay_s=60, close_s=2))
    print(producer.send("t.add").id, flush=True)
"""


def run(code: str, url: str, *, expect: int = 0) -> tuple[list[str], str]:
    """Run a program; the lines it wrote, and what it wrote to stderr."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM) + textwrap.dedent(code), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=os.getcwd())
    assert done.returncode == expect, done.stderr
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "del producer"])
def test_what_is_left_is_sent_at_the_end_of_the_program(db: Database, ending: str) -> None:
    sent, errors = run(ending, db.url)
    assert ids(db) == sent
    assert not errors


def test_an_end_that_cannot_send_says_what_is_lost() -> None:
    sent, errors = run("", f"redis://127.0.0.1:{free_port()}/0")
    assert f"the producer gives up, tasks not sent: {sent[0]}" in errors


def test_a_child_sends_its_own_messages_and_not_its_parents(db: Database) -> None:
    code = """
    if not (child := os.fork()):
        print(producer.send("t.add", queue="child").id, flush=True)
        sys.exit(0)
    os.waitpid(child, 0)
    import redis
    client = redis.Redis.from_url(sys.argv[1])
    print(client.llen("celery"), client.llen("child"))
    client.close()
    """
    (parent, child, of_parent, of_child), _errors = run(code, db.url)
    assert (of_parent, of_child) == ("0", "1")
    assert (ids(db), ids(db, "child")) == ([parent], [child])


@pytest.mark.parametrize("ending", ["", "sys.exit(0)"])
def test_a_child_of_multiprocessing_sends_its_own_at_its_end(db: Database, ending: str) -> None:
    code = f"""
    import multiprocessing

    def work():
        producer.send("t.add", queue="child")
        {ending}

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    """
    run(code, db.url)
    assert (db.length("celery"), db.length("child")) == (1, 1)


#: A web server that loads its application, forks workers, and replaces them while it serves.
SERVER = """
    import os, signal, socket, sys
    from fastq.producer import Buffering, Producer

    plain = Producer(sys.argv[1])
    collecting = Producer(sys.argv[1], queue="collected", buffer=Buffering(max_delay_s=60))
    plain.send("at start")
    collecting.send("at start")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        while True:
            with listener.accept()[0] as client:
                client.recv(1)
                plain.send("request")
                collecting.send("request")
                client.sendall(b"x")

    def start():
        worker = os.fork()
        return worker or serve()

    def request():
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"

    def stop(worker):
        os.kill(worker, signal.SIGTERM)
        assert os.waitpid(worker, 0)[1] == 0

    workers = [start() for _ in range(2)]
    for _ in range(20):
        request()
    for old in list(workers):
        workers.append(start())
        workers.remove(old)
        stop(old)
        request()
    for worker in workers:
        stop(worker)
    plain.close()
"""


def test_a_web_server_that_forks_and_reloads_loses_and_doubles_nothing(db: Database) -> None:
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", textwrap.dedent(SERVER), db.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=os.getcwd())
    assert (done.returncode, done.stderr) == (0, "")
    for queue in ("celery", "collected"):
        assert len(set(ids(db, queue))) == db.length(queue) == 23
