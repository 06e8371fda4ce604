"""arq, two workers side by side: it has no command for more than one."""

from __future__ import annotations

import msgspec

from bench.peers.peer import Peer, able

DEFAULT = Peer(
    name="arq",
    settings="default",
    why="Ten jobs at a time in each process, the queue looked at every half second, results kept for an hour.",
    home="peers/arq",
    client="bench.peers.apps.arq",
    packages=("arq", "redis", "hiredis", "uvloop"),
    worker=("-m", "bench.peers.twice", "{bin}/arq", "bench.peers.apps.arq.WorkerSettings"),
    can=able("results nap nap_async fill_later fill_async"),
    slots=10,
    variables={"FASTQ_BENCH_SETTINGS": "default"},
    guess=300,
)

TUNED = msgspec.structs.replace(
    DEFAULT,
    settings="tuned",
    why="arq-docs.helpmanual.io, Worker: max_jobs 100, poll_delay 10 ms, keep_result 0 where results are ignored; "
    "results looked for every millisecond; uvloop.",
    slots=100,
    variables={},
    guess=800,
)

PEERS = (TUNED, DEFAULT)
