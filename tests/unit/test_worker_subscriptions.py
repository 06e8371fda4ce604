"""Subscriptions: what is said on the wire, who is called, and that nothing heard ends the worker."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fastq.transport.redis.keys import Keys
from fastq.transport.redis.stream import Stream
from fastq.worker.cluster.subscriptions import Subscriptions
from tests.loose_end import LooseEnd


def publish(wire: LooseEnd, *words: bytes) -> None:
    data = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    wire.reader.feed(data)


def connected(subscriptions: Subscriptions) -> LooseEnd:
    wire = LooseEnd()
    stream = cast(Stream, wire)
    subscriptions.up(stream, asked=subscriptions.greet(stream))
    return wire


def test_names_and_patterns_are_asked_for_and_their_callbacks_called() -> None:
    heard: list[tuple[bytes, bytes]] = []
    subscriptions = Subscriptions()
    subscriptions.add("plain", lambda *what: heard.append(what))
    wire = connected(subscriptions)
    subscriptions.add("worker.*", lambda *what: heard.append(what))
    publish(wire, b"message", b"plain", b"1")
    publish(wire, b"pmessage", b"worker.*", b"worker.online", b"2")
    publish(wire, b"message", b"nobody's", b"3")
    subscriptions.ready(cast(Stream, wire))
    assert heard == [(b"plain", b"1"), (b"worker.online", b"2")]
    assert [data.split(b"\r\n")[2] for data in wire.sent] == [b"SUBSCRIBE", b"PSUBSCRIBE"]


def test_channels_hold_over_a_reconnection() -> None:
    subscriptions = Subscriptions()
    subscriptions.add("a", lambda *_: None)
    connected(subscriptions)
    subscriptions.lost()
    subscriptions.add("b", lambda *_: None)
    wire = connected(subscriptions)
    assert wire.sent == [b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n"]


def test_a_callback_that_raises_is_logged_and_the_next_message_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []

    def hear(_channel: bytes, data: bytes) -> None:
        if data == b"bad":
            raise KeyError(data)
        heard.append(data)

    subscriptions = Subscriptions()
    subscriptions.add("c", hear)
    wire = connected(subscriptions)
    for data in (b"bad", b"good"):
        publish(wire, b"message", b"c", data)
    subscriptions.ready(cast(Stream, wire))
    assert heard == [b"good"]
    assert "could not be handled" in caplog.text


def test_a_server_that_does_not_answer_a_ping_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("fastq.clock.monotonic", lambda: now)
    subscriptions = Subscriptions()
    wire = connected(subscriptions)
    subscriptions.ping()
    now = 105.0
    assert subscriptions.silent_s == 5.0
    publish(wire, b"pong", b"")
    subscriptions.ready(cast(Stream, wire))
    assert subscriptions.silent_s == 0.0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "/3.celeryev/worker.*"),
        ({"global_keyprefix": "p:"}, "p:/3.celeryev/worker.*"),
        ({"fanout_prefix": False}, "celeryev/worker.*"),
        ({"fanout_prefix": "x{db}."}, "x3.celeryev/worker.*"),
        ({"fanout_patterns": False}, "/3.celeryev"),
    ],
)
def test_channels_are_named_as_kombu_names_them(options: dict[str, Any], name: str) -> None:
    assert Keys.from_options(options).channel("celeryev", "worker.*", db=3) == name
