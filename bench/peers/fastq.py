"""fastq as a worker of a Celery application."""

from __future__ import annotations

import msgspec

from bench.peers.peer import Peer, able

_CAN = able("results acks nap fill_later fill_async urgent chain group chord many_chords mixed agents")

TUNED = Peer(
    name="fastq",
    why="The application with Celery's tuning, sent to by fastq's producer; no option of fastq's own.",
    client="bench.peers.apps.fastq",
    packages=("celery", "kombu", "redis", "hiredis", "msgspec"),
    worker=("-m", "fastq", "-A", "{app}", "worker", "-Q", "{queue}", "-c", "{children}", "-l", "WARNING"),
    nursery=True,
    can=_CAN,
    guess=200_000,
)

DEFAULT = msgspec.structs.replace(
    TUNED,
    settings="default",
    why="The application with nothing set but addresses and the queue.",
    variables={"FASTQ_BENCH_SETTINGS": "default"},
)

#: What an application gets that changes its worker and nothing else.
DROP_IN = msgspec.structs.replace(
    TUNED,
    name="fastq+celery",
    why="fastq's worker, sent to and waited for by Celery's own client.",
    client="bench.peers.apps.celery",
    can=_CAN - {"fill_async", "acks", "nap", "fill_later", "urgent", "mixed", "agents"},
)

PEERS = (TUNED, DEFAULT, DROP_IN)
