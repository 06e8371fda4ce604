"""The link between engine and nursery: messages whole, in order, whatever the pieces they arrive in."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastq.config.settings import WorkerOptions
from fastq.errors import ProcessLost, RingBroken
from fastq.ipc.link import LIMIT_BYTES, Link
from fastq.ipc.messages import Exited, Failed, Fork, Forked, Notify, Ready, Start, Stop, ToEngine, ToNursery
from fastq.program import ProgramInfo, TaskInfo

TO_NURSERY = [
    Start(options=WorkerOptions(app="proj", queues=("a",)), segment="/dev/shm/x", eventfd=5, worker="w1-01"),
    Fork(slot=3),
    Notify(signal="worker_shutting_down", arguments={"sig": "SIGTERM", "exitcode": 0}),
    Stop(),
]
TO_ENGINE = [
    Ready(program=ProgramInfo(app_name="proj", loader="", node="w1@host", tasks=[TaskInfo(name="t", time_limit=1.5)])),
    Failed(message="no such module", exit_code=2),
    Forked(slot=0, pid=77),
    Exited(slot=0, pid=77, status=9, maxrss_kib=1234),
]


@pytest.fixture
def ends() -> Iterator[tuple[Link[Any], Link[Any]]]:
    engine, nursery = socket.socketpair()
    engine.setblocking(False)
    yield Link(engine, incoming=ToEngine), Link(nursery, incoming=ToNursery)
    engine.close()
    nursery.close()


def receive(link: Link[Any], count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        found += link.receive()
    return found


def test_every_message_arrives_as_it_was(ends: tuple[Link[Any], Link[Any]]) -> None:
    engine, nursery = ends
    for message in TO_NURSERY:
        engine.send(message)
    assert receive(nursery, len(TO_NURSERY)) == TO_NURSERY
    for message in TO_ENGINE:
        nursery.send(message)
    assert receive(engine, len(TO_ENGINE)) == TO_ENGINE


def test_pieces_of_one_byte(ends: tuple[Link[Any], Link[Any]]) -> None:
    engine, nursery = ends
    nursery.send(TO_ENGINE[0])
    whole = engine.sock.recv(65536)
    found = []
    for at in range(len(whole)):
        nursery.sock.send(whole[at : at + 1])
        found += engine.receive()
        assert bool(found) == (at == len(whole) - 1)
    assert found == TO_ENGINE[:1]


def test_a_full_socket_keeps_the_rest(ends: tuple[Link[Any], Link[Any]]) -> None:
    engine, nursery = ends
    large = [Notify(signal="worker_ready", arguments={"text": "x" * 300_000, "n": number}) for number in range(3)]
    for message in large:
        engine.send(message)
    assert engine.wants_to_write
    found: list[Any] = []
    while len(found) < len(large):
        engine.flush()
        found += nursery.receive()
    assert found == large
    assert not engine.wants_to_write


def test_the_end_of_the_other_process(ends: tuple[Link[Any], Link[Any]]) -> None:
    engine, nursery = ends
    nursery.close()
    with pytest.raises(ProcessLost):
        engine.receive()
    with pytest.raises(ProcessLost):
        engine.send(Stop())


def test_nothing_there(ends: tuple[Link[Any], Link[Any]]) -> None:
    assert ends[0].receive() == []


def test_a_length_that_nobody_writes(ends: tuple[Link[Any], Link[Any]]) -> None:
    engine, nursery = ends
    nursery.sock.send((LIMIT_BYTES + 1).to_bytes(4, "little") + b"x")
    with pytest.raises(RingBroken):
        engine.receive()


def test_what_messagepack_cannot_say_is_told_as_text(ends: tuple[Link[Any], Link[Any]]) -> None:
    engine, nursery = ends
    engine.send(Notify(signal="s", arguments={"value": complex(1, 2)}))
    assert nursery.receive()[0].arguments == {"value": "(1+2j)"}
