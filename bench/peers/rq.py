"""RQ, two workers in a pool."""

from __future__ import annotations

import msgspec

from bench.peers.peer import Peer, able

_WORKER = ("{bin}/rq", "worker-pool", "{queue}", "--num-workers", "{children}", "--quiet")

DEFAULT = Peer(
    name="rq",
    settings="default",
    why="Each job in a process that is forked for it.",
    home="peers/rq",
    client="bench.peers.apps.rq",
    packages=("rq", "redis", "hiredis"),
    worker=_WORKER,
    can=able("results nap fill_later urgent"),
    variables={"FASTQ_BENCH_SETTINGS": "default", "RQ_REDIS_URL": "{url}"},
    guess=60,
)

TUNED = msgspec.structs.replace(
    DEFAULT,
    settings="tuned",
    why="python-rq.org/docs/workers, Performance notes: SimpleWorker, which runs jobs in its own process, for short "
    "jobs; python-rq.org/docs/results: a result lifetime of 0 where results are ignored.",
    worker=(*_WORKER, "--worker-class", "rq.SimpleWorker"),
    variables={"RQ_REDIS_URL": "{url}"},
    guess=500,
)

PEERS = (TUNED, DEFAULT)
