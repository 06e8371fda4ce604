"""Huey on Redis."""

from __future__ import annotations

import msgspec

from bench.peers.peer import Peer, able

_WORKER = ("{bin}/huey_consumer", "bench.peers.apps.huey.huey", "--workers", "{children}")

DEFAULT = Peer(
    name="huey",
    settings="default",
    why="Two threads of one process, since that is what its consumer makes of two workers.",
    home="peers/huey",
    client="bench.peers.apps.huey",
    packages=("huey", "redis", "hiredis"),
    worker=_WORKER,
    can=able("results nap fill_later chain group chord"),
    variables={"FASTQ_BENCH_SETTINGS": "default"},
)

TUNED = msgspec.structs.replace(
    DEFAULT,
    settings="tuned",
    why="huey.readthedocs.io, Consuming tasks: -k process for work that needs the processor, -q against a line of "
    "log for each task, no periodic tasks; notify_result, so that who waits need not poll; TERM as the "
    "signal to finish and stop.",
    worker=(*_WORKER, "--worker-type", "process", "--no-periodic", "--quiet", "--graceful-signal", "TERM"),
    variables={},
    guess=1500,
)

#: What its documentation says of tasks that wait: many workers in one process. Greenlets would need gevent, and tasks
#: patched by it.
THREADS = msgspec.structs.replace(
    TUNED,
    name="huey-threads",
    why="huey.readthedocs.io, Consuming tasks: more workers than cores for tasks that wait: -k thread, 16 in one "
    "process, as many slots as Dramatiq's two of 8.",
    worker=(
        *(each if each != "{children}" else "16" for each in _WORKER),
        *("--worker-type", "thread", "--no-periodic", "--quiet", "--graceful-signal", "TERM"),
    ),
    slots=8,
    variation="waits",
)

PEERS = (TUNED, DEFAULT, THREADS)
