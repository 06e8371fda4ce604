"""Inspect commands about tasks: what runs, what is here, what waits for its time, what is known.

Messages are read where they lie, in rings, in line, or on the broker; nothing is kept for these commands. A reply has
at most MOST_REQUESTS requests. They are decoded in a thread, so the worker goes on meanwhile.
"""

# The parameters are Celery's: clients of any version may send more of them than are used.

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastq import clock
from fastq.transport.connect import Endpoint
from fastq.wire.request import read_eta, request_info
from fastq.worker.cluster.commands.state import Elsewhere, Errand, State
from fastq.worker.processes.running import header_of, message, running

logger: logging.Logger = logging.getLogger(__name__)

#: Requests that one reply has at most; those that are due first, or came first. 10,000 of them take half a second in a
#: thread and make a reply of some megabytes.
MOST_REQUESTS = 10_000

#: Messages fetched from the broker at once.
FETCH = 500

#: The priority of Celery's timer entries, which its reply shows.
TIMER_PRIORITY = 6


def active(state: State, safe: bool = False, **kwargs: Any) -> Errand:
    """List of tasks currently being executed."""
    found, node = _running(state), state.node
    return Errand(lambda: [_info_of_running(node, one, safe=safe) for one in found])


def reserved(state: State, **kwargs: Any) -> Errand:
    """List of currently reserved tasks, not including scheduled/active."""
    lying, node = _limited(state.view.ledger.unstarted_messages(MOST_REQUESTS + 1), "reserved"), state.node
    return Errand(lambda: [request_info(message(*one), node=node) for one in lying])


def scheduled(state: State, **kwargs: Any) -> Errand:
    """List of currently scheduled ETA/countdown tasks."""
    places, node = _limited(_waiting(state), "scheduled"), state.node
    endpoint = state.endpoint
    return Errand(lambda: [_entry_of(raw, node=node) for raw in _fetch(endpoint, places)])


def query_task(state: State, ids: str | Sequence[str], **kwargs: Any) -> Errand:
    """Query for task information by id."""
    wanted = {ids} if isinstance(ids, str) else set(ids)
    active, lying, places = _running(state), state.view.ledger.unstarted_messages(MOST_REQUESTS), _waiting(state)
    node, endpoint = state.node, state.endpoint

    def find() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for run in active:
            _note(found, wanted, run[1], lambda _raw, run=run: ("active", _info_of_running(node, run)))  # type: ignore[misc]
        for one in lying:
            _note(found, wanted, message(*one), lambda raw: ("reserved", request_info(raw, node=node)))
        for raw in _fetch(endpoint, places) if wanted - found.keys() else ():
            _note(found, wanted, raw, lambda raw: ("scheduled", request_info(raw, node=node)))
        return found

    return Errand(find)


def revoked(state: State, **kwargs: Any) -> list[str]:
    """List of revoked task-ids."""
    return state.actions.revoked()


def registered(state: State, taskinfoitems: Any = None, builtins: bool = False, **kwargs: Any) -> Elsewhere:
    """List of registered tasks."""
    return Elsewhere(name="registered", arguments={"taskinfoitems": taskinfoitems, "builtins": builtins, **kwargs})


# ---------------------------------------------------------------------------- where messages lie

#: Pid of the child, the message, Unix time of its start, whether it has been acknowledged.
_Run = tuple[int, bytes, float, bool]


def _running(state: State) -> list[_Run]:
    now, now_ns = clock.now(), clock.monotonic_ns()
    children = state.view.children
    return [
        (children.pid(one.slot), one.raw, now - (now_ns - one.began_ns) / 1e9, not one.late)
        for one in running(state.view.ledger, children.slots)
    ]


def _info_of_running(node: str, one: _Run, *, safe: bool = False) -> dict[str, Any]:
    pid, raw, began, acknowledged = one
    info = request_info(raw, node=node, safe=safe)
    return info | {"time_start": began, "acknowledged": acknowledged, "worker_pid": pid}


def _waiting(state: State) -> list[tuple[bytes, int]]:
    """Where the messages with an ETA are; those that wait for their rate limit are in nobody's list, as with Celery."""
    places = state.view.ledger.waiting_places(MOST_REQUESTS + 1)
    return [(claim, at) for entry, _time, claim, at in places if not state.view.admission.buckets.holds(entry)]


def _limited(found: list[Any], what: str) -> list[Any]:
    if len(found) > MOST_REQUESTS:
        logger.warning("inspect %s: more than %d requests; the reply has the first of them", what, MOST_REQUESTS)
    return found[:MOST_REQUESTS]


# ---------------------------------------------------------------------------- in a thread


def _fetch(endpoint: Endpoint, places: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
    """The messages themselves, from the broker. What has become due meanwhile and is gone is left out."""
    if not places:
        return
    client: Any = endpoint.client(timeout_s=5.0)
    try:
        for first in range(0, len(places), FETCH):
            pipe = client.pipeline(transaction=False)
            for claim, at in places[first : first + FETCH]:
                pipe.lindex(claim, at)
            yield from (raw for raw in pipe.execute() if raw)
    finally:
        client.close()


def _entry_of(raw: bytes, *, node: str) -> dict[str, Any]:
    return {"eta": read_eta(raw), "priority": TIMER_PRIORITY, "request": request_info(raw, node=node)}


def _note(found: dict[str, Any], wanted: set[str], raw: bytes, answer: Callable[[bytes], object]) -> None:
    header = header_of(raw)
    if header is not None and header.id in wanted:
        found[header.id] = answer(raw)
