"""Make a Celery application with the settings that Celery's own guide recommends for speed.

All of them are documented in Celery's "Optimizing" guide and its list of settings. Both engines run with them, so
neither is measured with a handicap that a careful operator would not have. What is set on the command line
(`-O fair`, gossip, mingle and heartbeat off) is in `bench/processes.py`. With FASTQ_BENCH_SETTINGS=default, nothing
of it is set.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from bench.apps import agents

#: Messages a child may hold ahead. Found by trying, with 2,500 tasks of the row "stored", on a machine others used too:
#: twice each, 4, 16, 64 and 256 made 765, 675, 752 and 851 tasks/s; three times each, later, 64, 256 and 1024 made 939,
#: 973 and 1,020. Single runs differed by up to 20 %, so 256 and 1024 are not told apart, and the rest hardly.
PREFETCH_MULTIPLIER = int(os.environ.get("FASTQ_BENCH_PREFETCH", "256"))


def make_app(name: str) -> Celery:
    """Return an application that reads broker, result store and queue from the environment of the bench."""
    url = os.environ.get("FASTQ_BENCH_URL", "redis://127.0.0.1:6379/0")
    app = Celery(name, broker=url, backend=url)
    app.conf.task_default_queue = os.environ.get("FASTQ_BENCH_QUEUE", "bench")
    if os.environ.get("FASTQ_BENCH_SETTINGS", "tuned") == "tuned":
        app.conf.update(_tuning())
    if agent := os.environ.get("FASTQ_BENCH_AGENT"):
        agents.set_up(agent)
    return app


def _tuning() -> dict[str, Any]:
    return {
        "worker_prefetch_multiplier": PREFETCH_MULTIPLIER,
        "worker_disable_rate_limits": True,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "task_track_started": False,
        "result_expires": 3600,
    }
