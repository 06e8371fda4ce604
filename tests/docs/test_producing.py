"""The code in docs/guide/producing.md and docs/celery/accelerate.md runs as it stands there."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import pools

from fastq import Producer
from tests.fix_redis import Database

DOCS = Path(__file__).parents[2] / "docs"

BLOCKS = [
    (page, number, code)
    for page in ("guide/producing.md", "celery/accelerate.md")
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL))
]


@pytest.fixture
def answered(db: Database) -> Iterator[None]:
    """Every task of the queues in the docs succeeds at once."""
    stop = threading.Event()

    def answer() -> None:
        client = db.server.client(number=db.number)
        while not stop.is_set():
            found: Any = client.brpop(["emails", "celery"], timeout=0.1)
            if found is not None:
                key = f"celery-task-meta-{json.loads(found[1])['headers']['id']}"
                client.set(key, json.dumps({"status": "SUCCESS", "result": 1, "traceback": None}))
                client.publish(key, "done")
        client.close()

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("page", "number", "code"), BLOCKS, ids=[f"{page}-{number}" for page, number, _ in BLOCKS])
def test_the_code_runs(db: Database, answered: None, page: str, number: int, code: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(code.replace("redis://localhost:6379/0", db.url), f"{page}:{number}", "exec"), names)
    if isinstance(names.get("producer"), Producer):
        names["producer"].close()
    if "accelerate" in names:
        names["accelerate"](names["app"]).undo()
    pools.reset()
