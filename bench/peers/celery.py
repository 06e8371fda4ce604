"""Celery: its pool of processes, and its pool of threads."""

from __future__ import annotations

import msgspec

from bench.peers.peer import Peer, able
from bench.processes import CELERY_TUNING

_WORKER = (
    "-m",
    "celery",
    "-A",
    "{app}",
    "worker",
    "-Q",
    "{queue}",
    "-c",
    "{children}",
    "-l",
    "WARNING",
    "-n",
    "bench@%h",
)

TUNED = Peer(
    name="celery",
    why="docs.celeryq.dev, Optimizing: -O fair, a large prefetch multiplier for short tasks, rate limits off; and from "
    "the worker's options, gossip, mingle and heartbeat off, remote control and events off (bench/apps/settings.py).",
    client="bench.peers.apps.celery",
    packages=("celery", "kombu", "billiard", "redis", "hiredis"),
    worker=(*_WORKER, *CELERY_TUNING),
    can=able("results acks nap fill_later urgent chain group chord many_chords"),
)

DEFAULT = msgspec.structs.replace(
    TUNED,
    settings="default",
    why="Nothing set but addresses, the queue and the number of children.",
    worker=_WORKER,
    variables={"FASTQ_BENCH_SETTINGS": "default"},
    guess=500,
)

THREADS = msgspec.structs.replace(
    TUNED,
    name="celery-threads",
    why="docs.celeryq.dev, Concurrency: the pool of threads. One process of 16 threads, as many slots as "
    "Dramatiq's two of 8.",
    worker=(*(each if each != "{children}" else "16" for each in _WORKER), "-P", "threads", *CELERY_TUNING),
    slots=16,
    variation="threads",
)

PEERS = (TUNED, DEFAULT, THREADS)
