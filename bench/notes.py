"""Why fastq is behind where it is: one sentence or more for a workload, or for one measure of it.

What is behind is found in the results (`bench.behind`), whatever stands here; a row without a note says so. Keys are
"WORKLOAD" or "WORKLOAD: MEASURE", as the tables are titled.
"""

from __future__ import annotations

NOTES: dict[str, str] = {
    "countdowns: late p50": (
        "RQ keeps due times in whole seconds, so half of its tasks started before their time, which counts as "
        "not late; its p99 shows the others."
    ),
    "countdowns: memory": (
        "RQ, Huey, arq and SAQ leave tasks with a countdown in Redis and look there again and again for what "
        "is due. fastq fetches them, as Celery does, so that each starts on time: about a hundred bytes each."
    ),
    "get: p99": (
        "It is the stock client that has these slow calls: it leaves announcements unread that it has no use "
        "for, and a later call reads all of them. The quicker the worker, the more are left. `get-lean` shows "
        "the worker."
    ),
    "kill: resumed after": (
        "It is the start of the next worker, as in `start`. What runs when a worker is killed is lost under "
        "early acknowledgement, one task a child at most."
    ),
    "memory": (
        "One process with threads or an event loop is smaller than a main process, a nursery and two "
        "children. What a child adds is in `memory: idle, a child`."
    ),
    "mixed: p99.9": (
        "One task in a thousand was dealt to a child before it was known that the one before it takes 100 ms; "
        "it is taken back after about 30 ms and given to another child."
    ),
    "payload-100k": (
        "A message goes through the main process, which copies it into a child's ring; the others' processes "
        "read from Redis themselves. And seven of this size filled a ring, which had room again only when the "
        "broker had been told of them, after up to 15 ms: no longer so since this run "
        "(docs/internals/profiling.md)."
    ),
    "payload-1m": (
        "A message goes through the main process and, as it is larger than a ring may hold, through a file in "
        "memory; the others' processes read from Redis themselves."
    ),
    "sleep": (
        "A child runs one synchronous task at a time, and there are two, as of Celery's pool of processes. "
        "Dramatiq, pools of threads and event loops run more at a time in each process. Here a coroutine task "
        "is better (`sleep-async`), or more children."
    ),
    "start": (
        "fastq starts three processes, one after the other: the main one, the nursery, which imports the "
        "application, and the children. Celery's main process imports it and forks."
    ),
    "stop: stopped after": (
        "Before it ends, fastq tells the broker of every task that it has run, and gives back what it had fetched. "
        "SAQ and arq lost tasks here."
    ),
    "steady": (
        "Every system is at a share of its own most, so fastq's figures are taken at many times the messages "
        "per second of the others (`rate` in the raw figures)."
    ),
}


def note(workload: str, measure: str) -> str:
    """The note on a measure, or on its workload; empty if there is none yet."""
    return NOTES.get(f"{workload}: {measure}") or NOTES.get(workload, "")
