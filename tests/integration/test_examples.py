"""The examples of web frameworks, started as users start them: a request becomes a task, and the task an answer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastq.embedded import free_port
from tests.eventually import eventually
from tests.fix_redis import Database
from tests.fix_worker import ROOT, WorkerProcess


class Service:
    """A web server in a process of its own."""

    def __init__(self, command: list[str], *, port: int, env: dict[str, str], log: Path) -> None:
        self.port, self.log = port, log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], stdout=file, stderr=file, cwd=ROOT, env=env
            )

    def ask(self, path: str, *, method: str = "GET") -> tuple[int, Any]:
        """Status and JSON of the answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, None

    def listens(self) -> bool:
        """Whether it answers; an AssertionError when it has ended."""
        if self.process.poll() is not None:
            pytest.fail(f"the service ended: {self.log.read_text()}")
        try:
            return self.ask("/invoices/none")[0] == 200
        except OSError:
            return False


@contextlib.contextmanager
def running(name: str, command: list[str], worker: WorkerProcess, *, port: int, broker: str = "") -> Iterator[Service]:
    """The service, stopped at the end."""
    env = {**worker.env, **({"BROKER_URL": broker} if broker else {})}
    service = Service(
        [word.format(port=port) for word in command], port=port, env=env, log=worker.folder / f"{name}.txt"
    )
    try:
        yield service
    finally:
        service.process.terminate()
        service.process.wait(10)


EXAMPLES = {
    "fastapi": (
        ["uvicorn", "examples.fastapi_shop.main:api", "--port", "{port}"],
        "examples.fastapi_shop.tasks",
        "invoice for order 7: 12.50",
    ),
    "flask": (
        ["flask", "--app", "examples.flask_shop", "run", "--port", "{port}"],
        "examples.flask_shop.worker",
        "invoice for order 7: 12.50 EUR",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_request_becomes_a_task_and_the_task_an_answer(name: str, db: Database, tmp_path: Path) -> None:
    pytest.importorskip(name)
    command, module, wanted = EXAMPLES[name]
    worker = WorkerProcess(
        engine="fastq", folder=tmp_path, broker=db.url, app=module, env={"BROKER_URL": db.url}, concurrency=1
    )
    with running(name, command, worker, port=free_port()) as service:
        worker.start()
        try:
            eventually(service.listens, within_s=30)
            status, sent = service.ask("/orders/7/invoice?amount=12.5", method="POST")
            assert status == 202
            path = f"/invoices/{sent['id']}"
            eventually(lambda: service.ask(path)[1] == {"status": "SUCCESS", "result": wanted})
        finally:
            worker.finish()
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_without_redis_a_request_is_refused_in_order(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    command, module, _wanted = EXAMPLES[name]
    worker = WorkerProcess(engine="fastq", folder=tmp_path, broker="", app=module)
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with running(name, command, worker, port=free_port(), broker=nowhere) as service:

        def refused() -> bool:
            try:
                return service.ask("/orders/7/invoice?amount=12.5", method="POST")[0] == 503
            except OSError:
                return False

        eventually(refused, within_s=30)
        assert service.ask("/invoices/none")[0] == 503
