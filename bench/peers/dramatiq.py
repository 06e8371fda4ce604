"""Dramatiq on Redis."""

from __future__ import annotations

import msgspec

from bench.peers.peer import Peer, able

DEFAULT = Peer(
    name="dramatiq",
    settings="default",
    why="Eight threads in each process, twice as many messages fetched ahead, all of the default middleware.",
    home="peers/dramatiq",
    client="bench.peers.apps.dramatiq",
    packages=("dramatiq", "redis", "hiredis"),
    worker=("{bin}/dramatiq", "bench.peers.apps.dramatiq", "--processes", "{children}"),
    can=able("results nap fill_later chain group chord urgent"),
    slots=8,
    variables={"FASTQ_BENCH_SETTINGS": "default"},
    returns_s=75.0,
)

TUNED = msgspec.structs.replace(
    DEFAULT,
    settings="tuned",
    why="dramatiq.io/advanced.html, Prefetch limits: dramatiq_queue_prefetch larger, 128 a process, as short tasks "
    "want. Eight threads in each process, as by default.",
    variables={"dramatiq_queue_prefetch": "128"},
    guess=1500,
)

PEERS = (TUNED, DEFAULT)
