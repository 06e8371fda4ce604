"""Why fastq is behind where it is: one sentence or more for a workload, or for one measure of it.

What is behind is found in the results (`bench.behind`), whatever stands here; a row without a note says so. Keys are
"WORKLOAD" or "WORKLOAD: MEASURE", as the tables are titled.
"""

from __future__ import annotations

NOTES: dict[str, str] = {
    "get: p99": "It is the stock client that has these slow calls: it leaves announcements unread that it has no use "
    "for, and a later call reads all of them. The quicker the worker, the more are left. `get-lean` shows the worker.",
    "sleep": "A child runs one synchronous task at a time, and there are two, as of Celery's pool of processes. "
    "Dramatiq, pools of threads and event loops run more at a time in each process. Here a coroutine task is better "
    "(`sleep-async`), or more children.",
    "steady": "Every system is at a share of its own most, so fastq's figures are taken at many times the messages "
    "per second of the others (`rate` in the raw figures).",
}


def note(workload: str, measure: str) -> str:
    """The note on a measure, or on its workload; empty if there is none yet."""
    return NOTES.get(f"{workload}: {measure}") or NOTES.get(workload, "")
