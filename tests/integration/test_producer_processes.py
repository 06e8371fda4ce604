"""A producer that is shared: by threads, by processes that fork, by event loops; its addresses, and waiting."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from celery import Celery

from fastq import FastQ
from fastq.errors import NotConfirmed, ResultsUnavailable, TaskFailed, TaskRevoked, UrlError
from fastq.producer import AsyncProducer, Buffering, Handle, Producer, Replicas
from fastq.transport.connect import Endpoint
from tests.eventually import eventually
from tests.fix_proxy import Proxy
from tests.fix_redis import Database, RedisServer

#: Celery 5.7 stores results by a method that redis-py 8 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


def origins(db: Database) -> list[str]:
    """Which process each message in the queue says that it is from."""
    return [json.loads(entry)["headers"]["origin"].split("@")[0] for entry in db.entries()]


def in_child(work: Any) -> int:
    """Do something in a forked child; its exit code."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def connections(db: Database) -> int:
    """Connections to this database, but for the test's own."""
    found: Any = db.client.client_list()
    return sum(int(each["db"]) == db.number for each in found) - 1


def test_a_producer_made_and_used_before_forks_works_everywhere(db: Database) -> None:
    with Producer(db.url) as producer:
        producer.send("t.add")
        assert [in_child(lambda: producer.send("t.add")) for _ in range(3)] == [0, 0, 0]
        producer.send("t.add")
        assert connections(db) == 1  # the children's ended with them, the parent kept its own
    assert len(set(origins(db))) == 4
    assert origins(db)[0] == origins(db)[-1] == f"gen{os.getpid()}"


def test_children_fork_again(db: Database) -> None:
    with Producer(db.url) as producer:
        producer.send("t.add")
        assert in_child(lambda: sys.exit(in_child(lambda: producer.send("t.add")))) in (0, 1)
        eventually(lambda: db.length() == 2, saying="the grandchild has sent")


def test_threads_share_it_and_each_waits_for_its_own_answer(db: Database) -> None:
    sent: list[str] = []
    with Producer(db.url) as producer:

        def send() -> None:
            sent.extend(producer.send("t.add", (n,)).id for n in range(200))

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert connections(db) <= 8
    assert sorted(json.loads(entry)["headers"]["id"] for entry in db.entries()) == sorted(sent)


def test_a_fork_while_threads_send_leaves_the_child_able_to_send(db: Database) -> None:
    stop = threading.Event()
    with Producer(db.url) as producer:

        def send() -> None:
            while not stop.is_set():
                producer.send("t.add")

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        codes = [in_child(lambda: producer.send("t.add", queue="child")) for _ in range(5)]
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 5
    assert db.length("child") == 5


def test_after_a_restart_of_redis_it_goes_on(aof_server: RedisServer) -> None:
    with Producer(aof_server.url()) as producer:
        producer.send("t.add")
        aof_server.kill()
        aof_server.start()
        producer.send("t.add")
    client = aof_server.client()
    assert client.llen("celery") == 2
    client.close()


def test_each_event_loop_gets_its_own_connection(db: Database) -> None:
    producer = AsyncProducer(db.url)

    async def send() -> None:
        await asyncio.gather(*(producer.send("t.add") for _ in range(50)))
        assert connections(db) == 1
        await producer.close()

    asyncio.run(send())
    asyncio.run(send())
    assert db.length() == 100


def test_one_that_is_cancelled_takes_nothing_from_the_others(db: Database, proxy: Proxy) -> None:
    async def send() -> None:
        async with AsyncProducer(proxy.url(number=db.number)) as producer:
            first = asyncio.ensure_future(producer.send("t.add"))
            others = [asyncio.ensure_future(producer.send("t.add")) for _ in range(5)]
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(*others)
            await asyncio.gather(*(producer.send("t.add") for _ in range(5)))

    asyncio.run(send())
    assert db.length() in (10, 11)


def test_unix_sockets_and_lists_of_addresses_are_addresses(db: Database) -> None:
    socket_url = f"redis+socket://{db.server.socket_path}?virtual_host={db.number}"
    for url in (socket_url, [f"redis://127.0.0.1:1/{db.number}", db.url], f"redis://127.0.0.1:1/0;{db.url}"):
        with Producer(url) as producer:
            producer.send("t.add")

        async def send(url: str | list[str] = url) -> None:
            async with AsyncProducer(url) as producer:
                await producer.send("t.add")

        asyncio.run(send())
    assert db.length() == 6


def test_an_address_that_cannot_be_read_is_refused_without_its_password() -> None:
    with pytest.raises(UrlError) as caught:
        Producer("redis://:secret@host:port/0")
    assert "secret" not in str(caught.value)


# Results


@pytest.fixture
def app(db: Database) -> Any:
    """A Celery client that stores results."""
    return Celery("client", broker=db.url, backend=db.url, set_as_current=False)


def test_waiting_uses_one_connection_for_all_results(db: Database, app: Any) -> None:
    with Producer(db.url) as producer:
        for number in range(5):
            handle = producer.send("t.add")
            timer = threading.Timer(0.02, app.backend.store_result, (handle.id, number, "SUCCESS"))
            timer.start()
            assert handle.get(timeout=10) == number
            timer.join()
        listening: Any = db.client.client_list(_type="pubsub")
        assert len([each for each in listening if int(each["db"]) == db.number]) <= 1
        producer.close()
    app.close()


def test_waiting_survives_a_cut_and_gives_up_when_the_store_stays_away(db: Database, proxy: Proxy, app: Any) -> None:
    with Producer(db.url, result_url=proxy.url(number=db.number)) as producer:
        handle = producer.send("t.add")
        timers = [
            threading.Timer(0.05, proxy.cut),
            threading.Timer(0.1, app.backend.store_result, (handle.id, 1, "SUCCESS")),
        ]
        for timer in timers:
            timer.start()
        assert handle.get(timeout=10) == 1
        for timer in timers:
            timer.join()
        proxy.refuse()
        proxy.cut()
        with pytest.raises(ResultsUnavailable, match="result store"):
            producer.send("t.add").get(timeout=0.2)
    app.close()


def test_how_a_task_ended_is_told_apart(db: Database, app: Any) -> None:
    with Producer(db.url) as producer:
        handle: Handle[list[int]] = producer.send("t.add", decode=lambda value: [value])
        assert (handle.status, handle.ready()) == ("PENDING", False)
        app.backend.store_result(handle.id, 3, "SUCCESS")
        assert (handle.get(timeout=1), handle.wait(timeout=1).result, handle.ready()) == ([3], 3, True)
        handle.forget()
        assert handle.status == "PENDING"
        app.backend.store_result(handle.id, ValueError("odd", 1), "FAILURE", traceback="Traceback ...")
        with pytest.raises(TaskFailed) as caught:
            handle.get(timeout=1)
        failed = caught.value
        assert (failed.exc_type, failed.exc_module, failed.exc_args) == ("ValueError", "builtins", ("odd", 1))
        assert (failed.task_id, failed.traceback) == (handle.id, "Traceback ...")
        app.backend.store_result(handle.id, ValueError("gone"), "REVOKED")
        with pytest.raises(TaskRevoked):
            handle.get(timeout=1)
    app.close()


def test_coroutines_wait_on_one_connection(db: Database, proxy: Proxy, app: Any) -> None:
    async def wait() -> None:
        async with AsyncProducer(proxy.url(number=db.number)) as producer:
            handles = await asyncio.gather(*(producer.send("t.add") for _ in range(20)))
            waiting = [asyncio.ensure_future(handle.get(timeout=10)) for handle in handles]
            twice = asyncio.ensure_future(handles[0].get(timeout=10))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(proxy.cut)
            for number, handle in enumerate(handles):
                app.backend.store_result(handle.id, number, "SUCCESS")
            assert await asyncio.gather(*waiting) == list(range(20))
            assert await twice == 0
            assert await handles[1].ready()
            with pytest.raises(TimeoutError):
                await producer.handle("none").get(timeout=0.05)

    asyncio.run(wait())
    app.close()


def test_importing_costs_little_and_loads_no_redis() -> None:
    code = """
import sys, time
began = time.process_time()
import fastq
spent_s = time.process_time() - began
from fastq import AsyncProducer, FastQ, Producer
Producer("redis://localhost/0"), AsyncProducer("redis://localhost/0"), FastQ("light")
print(spent_s, *{"redis", "celery", "kombu", "asyncio", "hiredis"} & sys.modules.keys())
"""

    def found() -> list[str]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.split()

    runs = [found() for _ in range(3)]
    assert [run[1:] for run in runs] == [[], [], []]
    assert min(float(run[0]) for run in runs) < 0.06


def test_an_application_sends_by_a_buffer_and_asks_replicas(db: Database) -> None:
    app = FastQ("buffering", broker=db.url, backend=db.url, publish_buffer=Buffering(max_delay_s=60))
    add = app.task(name="t.add")(lambda x, y: x + y)
    add.delay(1, 2)
    assert db.length() == 0
    app.close()
    assert db.length() == 1
    app = FastQ("confirming", broker=db.url, backend=db.url, publish_confirm=Replicas(1, timeout_s=0.01))
    with pytest.raises(NotConfirmed, match="0 of 1 replicas"):
        app.task(name="t.add")(lambda x, y: x + y).delay(1, 2)
    app.close()


def sends_both_ways(url: str, app: Any, **settings: Any) -> None:
    """Send with both producers, twice each, and wait for a result with both."""
    with Producer(url, **settings) as producer:
        handles = [producer.send("t.add") for _ in range(2)]
        timer = threading.Timer(0.1, app.backend.store_result, (handles[1].id, 7, "SUCCESS"))
        timer.start()
        assert handles[1].get(timeout=10) == 7
        timer.join()

    async def send() -> None:
        async with AsyncProducer(url, **settings) as asynchronous:
            assert await asynchronous.handle(handles[1].id).get(timeout=10) == 7
            first = await asynchronous.send("t.add")
            waiting = asyncio.ensure_future(first.get(timeout=10))
            await asyncio.sleep(0.1)
            app.backend.store_result(first.id, 8, "SUCCESS")
            assert await waiting == 8

    asyncio.run(send())


def test_tls_and_sentinels_are_spoken(
    db: Database, tls_port: int, certificate: Any, sentinel_port: int, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    own_open = Endpoint.open

    def counting(self: Endpoint, *args: Any) -> Any:
        opened.append(self)
        return own_open(self, *args)

    monkeypatch.setattr(Endpoint, "open", counting)
    query = f"ssl_cert_reqs=required&ssl_ca_certs={certificate}"
    sends_both_ways(f"rediss://127.0.0.1:{tls_port}/{db.number}?{query}", app)
    assert len(opened) <= 3  # to send, to read, to listen: tickets of TLS are not taken for a closed connection
    sentinel = f"sentinel://127.0.0.1:{sentinel_port}/{db.number}"
    sends_both_ways(sentinel, app, transport_options={"master_name": "mymaster"})
    assert db.length() == 6
    app.close()
