"""taskiq with taskiq-redis."""

from __future__ import annotations

import msgspec

from bench.peers.peer import Peer, able

_WORKER = ("{bin}/taskiq", "worker", "bench.peers.apps.taskiq:broker", "--workers", "{children}")

DEFAULT = Peer(
    name="taskiq",
    settings="default",
    why="The stream broker, with which the documentation of taskiq-redis begins; 100 tasks at a time in each process.",
    home="peers/taskiq",
    client="bench.peers.apps.taskiq",
    packages=("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop"),
    worker=_WORKER,
    can=able("results nap nap_async fill_async"),
    slots=100,
    variables={"FASTQ_BENCH_SETTINGS": "default"},
)

TUNED = msgspec.structs.replace(
    DEFAULT,
    settings="tuned",
    why="taskiq-python.github.io, CLI: --max-prefetch for high message rates, --no-parse where arguments need no "
    "casts, log level WARNING; uvloop installed, which it uses by itself; results looked for every millisecond "
    "instead of every 200.",
    worker=(*_WORKER, "--max-prefetch", "100", "--no-parse", "--log-level", "WARNING"),
    variables={},
    guess=1500,
)

PEERS = (TUNED, DEFAULT)
