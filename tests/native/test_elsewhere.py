"""Programs on macOS and Windows: there are none of those systems here, but processes without what those lack."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.fix_lab import Lab
from tests.fix_worker import ROOT

pytestmark = pytest.mark.fastq_only

PLATFORMS = pytest.mark.parametrize("platform", ["darwin", "win32"])

BEGIN = """
import sys
from tests.native.elsewhere import become
become(sys.argv[1])

import fastq, os
for name in fastq.__all__:
    getattr(fastq, name)
from fastq import FastQ

URL = os.environ.get("FASTQ_TEST_BROKER", "redis://127.0.0.1:1/0")

def make(wire):
    app = FastQ("elsewhere", broker=URL, backend=URL, wire=wire, task_default_queue="celery", result_expires=60)

    @app.task(name="tests.apps.native.add")
    def add(x: int, y: int) -> int:
        return x + y

    return app, add

"""


def program(platform: str, text: str, *, url: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program there, after BEGIN."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(text), platform],
        env={**os.environ, **({"FASTQ_TEST_BROKER": url} if url else {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def succeed(platform: str, text: str, *, url: str = "") -> str:
    done = program(platform, text, url=url)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@PLATFORMS
def test_tasks_are_sent_in_every_way_and_results_read(shop: Lab, platform: str) -> None:
    sends = """
        import asyncio
        from fastq import Buffering, Producer, TaskOptions, chain, chord, group

        async def away(app, add):
            first = await add.adelay(1, 2)
            rest = await asyncio.gather(*(app.async_producer.send(add.name, (n, n)) for n in range(5)))
            found = [await each.get(timeout=20) for each in (first, *rest)]
            await app.aclose()
            return found

        for wire in ("celery", "fastq"):
            app, add = make(wire)
            assert add.delay(1, 2).get(timeout=20) == 3
            assert add.apply_async((2, 3), countdown=0.05).get(timeout=20) == 5
            assert [app.AsyncResult(each).get(timeout=20) for each in
                    app.producer.send_many(add.name, [((n, 1), None) for n in range(3)])] == [1, 2, 3]
            assert group(add.s(n, n) for n in range(3))().get(timeout=20) == [0, 2, 4]
            assert chain(add.s(1, 2), add.s(3))().get(timeout=20) == 6
            # With pauses between them: whether a connection is still good is asked then.
            handles = []
            with Producer(URL, wire=wire, queue="celery", buffer=Buffering(max_delay_s=0.01)) as producer:
                for n in range(3):
                    handles.append(producer.send(add.name, (n, n)))
                    producer.flush()
                    __import__("time").sleep(0.02)
                assert [each.get(timeout=20) for each in handles] == [0, 2, 4]
            assert asyncio.run(away(app, add)) == [3, 0, 2, 4, 6, 8]
            try:
                app.send_task("tests.apps.native.fail", ("no",)).get(timeout=20)
            except fastq.errors.TaskFailed as error:
                print(wire, error)
            app.close()
    """
    told = succeed(platform, sends, url=shop.db.url)
    assert [line.split()[0] for line in told.splitlines()] == ["celery", "fastq"]


@PLATFORMS
def test_a_server_that_does_not_answer_is_given_up_in_time(platform: str) -> None:
    silent = """
        import socket
        from fastq import Producer
        from fastq.producer.line import Line
        from fastq.transport.connect import OpenConnection
        from fastq.transport.urls import read_urls

        listener = socket.create_server(("127.0.0.1", 0))
        ours = socket.create_connection(listener.getsockname())
        line = Line(OpenConnection(ours, address=read_urls(URL)[0]), timeout_s=0.05)
        assert line.usable and line.listen(0.01) == []
        theirs, _ = listener.accept()
        try:
            line.ask(b"*1\\r\\n$4\\r\\nPING\\r\\n", 1)
        except Exception as error:
            print(error)
        theirs.close()
        ours = socket.create_connection(listener.getsockname())
        line = Line(OpenConnection(ours, address=read_urls(URL)[0]), timeout_s=5)
        listener.accept()[0].close()
        try:
            line.listen(5)
        except Exception as error:
            print(error)
        assert not line.usable
        listener.close()
    """
    assert succeed(platform, silent).splitlines() == ["no answer in time", "closed by the server"]


@PLATFORMS
def test_a_celery_application_is_accelerated(shop: Lab, platform: str) -> None:
    accelerated = """
        from celery import Celery, group
        from fastq.celery import accelerate

        app = Celery("elsewhere", broker=URL, backend=URL)
        app.conf.result_expires = 60

        @app.task(name="tests.apps.native.add")
        def add(x, y):
            pass

        with accelerate(app):
            sent = [add.delay(1, 2), *group(add.s(n, n) for n in range(3))()]
        reader = FastQ("reader", broker=URL, backend=URL)
        print([reader.AsyncResult(each.id).get(timeout=20) for each in sent])
        reader.close()
        app.close()
    """
    assert succeed(platform, accelerated, url=shop.db.url) == "[3, 0, 2, 4]\n"


@PLATFORMS
def test_tasks_run_at_once(platform: str) -> None:
    eager = """
        from fastq import Retry
        for wire in ("celery", "fastq"):
            app, add = make(wire)

            @app.task(bind=True, default_retry_delay=0)
            def again(self) -> int:
                if self.request.retries < 2:
                    raise self.retry(countdown=0)
                return self.request.retries

            @app.task
            async def soon(x: int) -> int:
                return x

            with app.testing() as testing:
                print(add.delay(1, 2).get(), again.delay().get(), soon.delay(4).get(), len(testing.ran))
            assert add.apply((1, 2)).get() == 3
    """
    assert succeed(platform, eager) == "3 2 4 5\n" * 2


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        ("darwin", "needs Linux, and this is macOS"),
        ("win32", "needs Linux, and this is Windows"),
        ("linux", "needs fastq's compiled core, which was not built into this installation"),
    ],
)
def test_workers_are_refused_in_one_line(platform: str, said: str) -> None:
    refused = """
        from fastq.cli.main import _COMMANDS, _ANYWHERE
        from fastq.cli.start import main
        from fastq.errors import CoreMissing

        app, add = make("celery")
        try:
            app.testing(children=1)
        except CoreMissing as error:
            print(error, file=sys.stderr)
        for name in sorted(set(_COMMANDS) - _ANYWHERE):
            assert main([name, "-A", "tests.apps.native"]) == 2, name
    """
    done = program(platform, refused)
    assert done.returncode == 0, done.stdout + done.stderr
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"app.testing(children=...) {said}")
    assert f"fastq: fastq worker {said}" in "\n".join(rest)
    assert f"fastq: fastq beat {said}" in "\n".join(rest)
    assert all(said in line for line in rest)


@pytest.mark.parametrize(("platform", "wish"), [("darwin", ""), ("win32", ""), ("linux", "0")])
def test_nothing_is_compiled_to_install_it(platform: str, wish: str) -> None:
    installed = """
        import sys
        import setuptools
        from distutils.core import run_setup
        sys.platform = sys.argv.pop()
        print("extensions:", run_setup("setup.py", stop_after="init").ext_modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(installed), platform],
        env={**os.environ, "FASTQ_CORE": wish},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "extensions: []\n"
    assert "fastq: without the compiled core" in done.stderr


@PLATFORMS
def test_brokers_and_applications_are_looked_at(shop: Lab, platform: str) -> None:
    looks = """
        from fastq.cli.start import main
        assert main(["queues", "--broker", URL]) == 0
        assert main(["dlq", "list", "--broker", URL]) == 0
        assert main(["schedule", "-A", "tests.apps.native", "--broker", URL]) == 0
        assert main(["queues", "-A", "tests.apps.plain"]) == 0
        assert main(["--help"]) == 0
    """
    assert "celery" in succeed(platform, looks, url=shop.db.url)


def test_a_unix_socket_is_refused_where_there_are_none() -> None:
    refused = """
        from fastq import Producer
        try:
            Producer("redis+socket:///run/redis.sock").send("t.add", (1, 2))
        except fastq.errors.UrlError as error:
            print(error)
    """
    assert "Unix socket" in succeed("win32", refused)
