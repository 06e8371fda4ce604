"""SAQ on Redis."""

from __future__ import annotations

import msgspec

from bench.peers.peer import Peer, able

DEFAULT = Peer(
    name="saq",
    settings="default",
    why="Ten jobs at a time in each process.",
    home="peers/saq",
    client="bench.peers.apps.saq",
    packages=("saq", "redis", "hiredis", "uvloop"),
    worker=("{bin}/saq", "bench.peers.apps.saq.settings", "--workers", "{children}", "--quiet"),
    can=able("results nap nap_async fill_later fill_async"),
    slots=10,
    tell_all=True,
    variables={"FASTQ_BENCH_SETTINGS": "default"},
    returns_s=75.0,
)

TUNED = msgspec.structs.replace(
    DEFAULT,
    settings="tuned",
    why="saq-py.readthedocs.io, Worker: concurrency 100; Job: a ttl of -1 where results are ignored; hiredis; uvloop; "
    "results looked for every millisecond.",
    slots=100,
    variables={},
    guess=1000,
)

PEERS = (TUNED, DEFAULT)
