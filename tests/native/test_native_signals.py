"""What receivers of a native application's signals are given: the task itself, and headers that say which message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fastq import FastQ, group, signals
from fastq.app.signals import Signal

pytestmark = pytest.mark.fastq_only

app = FastQ("heard", broker="redis://127.0.0.1:1/0", task_default_queue="heard-of")


@app.task(name="heard.senders")
def senders() -> list[bool]:
    return started


@app.task(name="heard.headers", bind=True)
def headers(self: Any) -> Any:
    return [self.request.id, self.request.headers.get("trace")]


started: list[bool] = []
published: list[tuple[str, dict[str, Any]]] = []


@pytest.fixture
def listening() -> Iterator[None]:
    receivers: list[tuple[Signal, Any]] = [
        (signals.task_prerun, lambda sender, task, **_rest: started.append(sender is task is senders)),
        (signals.before_task_publish, lambda headers, **_rest: headers.update(trace=f"of {headers['id']}")),
        (signals.after_task_publish, lambda sender, **rest: published.append((sender, rest))),
    ]
    for signal, receiver in receivers:
        signal.connect(receiver)
    yield
    for signal, receiver in receivers:
        signal.disconnect(receiver)
    started.clear()
    published.clear()


@pytest.mark.usefixtures("listening")
def test_the_sender_is_the_task_itself() -> None:
    with app.testing(children=1):
        assert senders.delay().get(10) == [True]


@pytest.mark.usefixtures("listening")
def test_receivers_know_which_message_is_sent_and_may_add_headers() -> None:
    with app.testing():
        handle = headers.delay()
        assert handle.get() == [handle.id, f"of {handle.id}"]
        members = group(headers.s(), headers.s()).delay()
        assert members.get() == [[child.id, f"of {child.id}"] for child in members.children]
    sent = [handle.id, *(child.id for child in members.children)]
    assert [(name, fields["headers"]["id"], fields["headers"]["task"]) for name, fields in published] == [
        ("heard.headers", one, "heard.headers") for one in sent
    ]
    assert {fields["routing_key"] for _, fields in published} == {"heard-of"}
