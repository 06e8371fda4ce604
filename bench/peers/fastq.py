"""fastq: as a worker of a Celery application, behind several clients, and with an application of its own."""

from __future__ import annotations

import msgspec

from bench.peers.peer import Peer, able

_CAN = able("results acks nap fill_later fill_async urgent chain group chord many_chords mixed")

TUNED = Peer(
    name="fastq",
    why="The application with Celery's tuning, sent to by fastq's producer; no option of fastq's own.",
    client="bench.peers.apps.fastq",
    packages=("celery", "kombu", "redis", "hiredis", "msgspec"),
    worker=("-m", "fastq", "-A", "{app}", "worker", "-Q", "{queue}", "-c", "{children}", "-l", "WARNING"),
    nursery=True,
    can=_CAN,
    # Leases last ten seconds.
    returns_s=30.0,
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
    variation="clients",
    can=_CAN - {"fill_async", "acks", "nap", "fill_later", "urgent", "mixed"},
)

ACCELERATED = msgspec.structs.replace(
    DROP_IN,
    name="fastq+accelerate",
    why="fastq's worker; Celery's own client after fastq.celery.accelerate(app).",
    client="bench.peers.apps.accelerated",
)

#: Not a worker of a Celery application: an application of fastq's own, and messages that only fastq reads.
NATIVE = msgspec.structs.replace(
    TUNED,
    name="fastq-native",
    why='An application of fastq\'s own with wire="fastq"; the prefetch multiplier of the others.',
    client="bench.peers.apps.native",
    packages=("redis", "hiredis", "msgspec"),
    app="bench.apps.native",
    can=able("results acks nap fill_later fill_async urgent chain group chord many_chords"),
)

#: The same with coroutines, a hundred in flight in each child.
COROUTINES = msgspec.structs.replace(
    NATIVE,
    name="fastq-coroutines",
    why="fastq-native with a coroutine task: children run event loops, with 100 tasks in flight, as by default.",
    can=able("nap_async"),
    slots=100,
    variables={"FASTQ_BENCH_COROUTINES": "1"},
    variation="coroutines",
)

PEERS = (TUNED, DEFAULT, NATIVE, COROUTINES, DROP_IN, ACCELERATED)
