"""The bench a test works on: one database, one ledger, clients and workers, all put away at the end."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apps.ledger import Ledger
from tests.eventually import eventually
from tests.fix_redis import Database, RedisServer, fresh_database
from tests.fix_worker import WorkerProcess

#: Seconds a test waits for a result of a task that takes no time itself.
RESULT_S = 15.0


class Lab:
    """What one test (or one module) has: `lab.app` sends, `lab.worker()` runs, `lab.ledger` remembers."""

    def __init__(self, engine: str, *, db: Database, folder: Path) -> None:
        self.engine = engine
        self.db = db
        self.folder = folder
        self.ledger = Ledger(folder)
        self.settings: dict[str, Any] = {}
        self.broker = db.url
        self.backend = db.url
        self.module = "tests.apps.plain"
        self.workers: list[WorkerProcess] = []
        self._apps: list[Any] = []

    def use(self, module: str = "", *, broker: str = "", backend: str = "", **settings: Any) -> None:
        """Choose application, URLs and settings for the clients and workers made afterwards."""
        self.module = module or self.module
        self.broker = broker or self.broker
        self.backend = backend or broker or self.backend
        self.settings.update(settings)

    @property
    def app(self) -> Any:
        """The client: a stock Celery application with the tasks of the worker's."""
        return self._apps[0] if self._apps else self.client()

    def client(self, *, broker: str = "", **settings: Any) -> Any:
        """One more client, with settings of its own."""
        table = importlib.import_module(self.module).table
        app = table.build({**self.settings, **settings}, broker=broker or self.broker, backend=self.backend)
        self._apps.append(app)
        return app

    def task(self, name: str) -> Any:
        """A task of the client's application, by the part of its name after "t."."""
        return self.app.tasks[f"t.{name}"]

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        """Send `t.<name>` with these arguments; `options` are those of apply_async."""
        return self.task(name).apply_async(args, **options)

    def run(self, name: str, *args: Any, **options: Any) -> Any:
        """Send and wait for the value (or the exception)."""
        return self.send(name, *args, **options).get(timeout=RESULT_S)

    def worker(self, *args: str, engine: str = "", ready: bool = True, name: str = "", **options: Any) -> WorkerProcess:
        """Start a worker on the lab's database."""
        worker = WorkerProcess(
            engine=engine or self.engine,
            folder=self.folder,
            name=name or f"w{len(self.workers) + 1}",
            args=args,
            **{**self._defaults(), **options},
        )
        self.workers.append(worker)
        return worker.start(ready=ready)

    def _defaults(self) -> dict[str, Any]:
        return {"app": self.module, "broker": self.broker, "backend": self.backend, "settings": self.settings}

    def idle(self) -> bool:
        """Whether nothing waits and nobody holds a message."""
        return not self.held() and not any(self.db.length(key) for key in self.db.keys("celery*") if _is_queue(key))

    def held(self) -> dict[str, int]:
        """How many messages each worker's books hold: kombu's unacked and fastq's claim lists."""
        client = self.db.client
        unacked: Any = client.hlen("unacked")
        claims: dict[str, Any] = {key: client.llen(key) for key in self.db.keys("*fastq:claim:*")}
        return {name: int(count) for name, count in {"unacked": unacked, **claims}.items() if count}

    def books(self) -> list[bytes]:
        """The texts of all messages that are held: what a worker has claimed and not settled."""
        hashed: Any = self.db.client.hvals("unacked")
        lists: list[Any] = [self.db.client.lrange(key, 0, -1) for key in self.db.keys("*fastq:claim:*")]
        return [text.replace(b"\\", b"") for text in [*hashed, *(entry for entries in lists for entry in entries)]]

    def assert_nothing_held(self) -> None:
        """No message is in any worker's books, and no worker is registered."""
        assert not self.held(), f"messages are still held: {self.held()}"
        assert not self.db.keys("*fastq:claim*"), self.db.keys("*fastq:claim*")

    def close(self) -> None:
        """Stop all workers, close all clients, and assert that nothing is left of them."""
        with contextlib.ExitStack() as stack:
            for app in self._apps:
                stack.callback(close_app, app)
            if self._all_in_order():
                stack.callback(self.assert_nothing_held)
            for worker in self.workers:
                stack.callback(worker.finish)

    def _all_in_order(self) -> bool:
        return bool(self.workers) and not any(worker.killed for worker in self.workers)


def _is_queue(key: str) -> bool:
    return not key.startswith("celery-task")


def close_app(app: Any) -> None:
    """Give back every connection of a client."""
    backend = app.backend
    consumer = getattr(backend, "result_consumer", None)
    if consumer is not None:
        consumer.stop()
        consumer._pubsub = None  # results that outlive the client must not open a new connection to unsubscribe
    redis_client = vars(backend).get("client")
    if redis_client is not None:
        redis_client.close()
        redis_client.connection_pool.disconnect()
    if app._pool is not None:
        app._pool.force_close_all()
    app.close()


def stored(lab: Lab, task_id: str) -> dict[str, Any]:
    """The stored result of a task as Celery's backend decodes it; {} when there is none."""
    raw: Any = lab.db.client.get(f"celery-task-meta-{task_id}")
    return dict(lab.app.backend.decode(raw)) if raw else {}


def wait_state(lab: Lab, task_id: str, state: str, *, within_s: float = RESULT_S) -> dict[str, Any]:
    """Wait until this state is stored; the whole record."""
    eventually(
        lambda: stored(lab, task_id).get("status") == state,
        within_s=within_s,
        saying=f"{task_id} is {state}, has {stored(lab, task_id)}",
    )
    return stored(lab, task_id)


@pytest.fixture
def lab(engine: str, db: Database, tmp_path: Path) -> Iterator[Lab]:
    """A lab of this test's own."""
    bench = Lab(engine, db=db, folder=tmp_path)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def module_lab(engine: str, module_db: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that the tests of a module share."""
    bench = Lab(engine, db=module_db, folder=tmp_path_factory.mktemp("lab"))
    yield bench
    bench.close()


@pytest.fixture
def other_lab(engine: str, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A second lab, for comparisons."""
    database = fresh_database(redis_server)
    bench = Lab(engine, db=database, folder=tmp_path_factory.mktemp("other"))
    yield bench
    bench.close()
    database.clear()
