"""The ideal worker: takes a message, stores a made-up result, announces it. What no worker can be faster than.

    python -m bench.floor PORT DB QUEUE

It runs no task, records nothing about who holds what, and loses a message when it is killed. Beside it, the time of one
`delay().get()` is the client's own, plus the server's.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import BinaryIO

from fastq.transport.redis.commands import pack


def main(port: int, db: int, queue: str) -> None:
    """Answer one message after the other, until killed."""
    with socket.create_connection(("127.0.0.1", port)) as server, server.makefile("rb") as replies:
        server.sendall(pack("SELECT", db))
        replies.readline()
        while True:
            server.sendall(pack("BRPOP", queue, 0))
            _answer(server, replies, json.loads(_popped(replies)))


def _popped(replies: BinaryIO) -> bytes:
    """The second of an array of two bulk strings."""
    replies.readline()
    for _ in range(2):
        size = int(replies.readline()[1:])
        found = replies.read(size + 2)[:-2]
    return found


def _answer(server: socket.socket, replies: BinaryIO, message: dict[str, dict[str, str]]) -> None:
    identity, number = message["headers"]["id"], message["headers"]["argsrepr"].strip("(),")
    meta = {
        "status": "SUCCESS",
        "result": int(number),
        "traceback": None,
        "children": [],
        "date_done": "2026-01-01T00:00:00+00:00",
        "task_id": identity,
    }
    key, value = f"celery-task-meta-{identity}", json.dumps(meta)
    server.sendall(pack("SETEX", key, 86400, value) + pack("PUBLISH", key, value))
    for _ in range(2):
        replies.readline()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
