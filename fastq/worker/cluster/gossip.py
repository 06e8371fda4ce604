"""Hear other workers: who comes, goes and falls silent, what time their clocks say, and what they elect.

The rules are those of Celery's gossip, message for message: an election ends only when all who are there agree.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from fastq import clock
from fastq.program import Question, Reply
from fastq.wire.event import read_event
from fastq.worker.cluster.events import Events
from fastq.worker.cluster.lamport import SharedLamport
from fastq.worker.poll import Timers

#: The lines are Celery's, and come from where its users look for them.
logger: logging.Logger = logging.getLogger("celery.worker.consumer.gossip")

#: Seconds between looks for workers that have fallen silent; Celery's.
LOOK_S = 5.0

#: Heartbeats that a worker may leave out; Celery's.
MOST_MISSED = 2

#: Seconds between the heartbeats of a worker that does not say how many; Celery's.
USUAL_FREQ_S = 60.0

#: Seconds that two clocks may be apart before it is said; Celery's.
MOST_DRIFT_S = 16

#: Elections that may be under way; older ones are given up. Nobody holds more, unless by mistake.
MOST_ELECTIONS = 100


class Peer(msgspec.Struct):
    """Another worker, as far as it has been heard."""

    node: str
    freq_s: float = USUAL_FREQ_S
    #: By the monotonic clock, when it was heard last.
    heard_s: float = 0.0
    drift_said: bool = False

    @property
    def alive(self) -> bool:
        """Whether it has not missed too many heartbeats."""
        return clock.monotonic() < self.heard_s + MOST_MISSED * self.freq_s


class Election(msgspec.Struct):
    """One election: candidates as (clock, node and pid, topic, action), and how many have acknowledged them."""

    candidates: list[tuple[int, str, str, Any]] = []
    acknowledged: int = 0
    #: Whether this worker was asked to hold it, too.
    ours: bool = False


class Gossip:
    """What one worker hears of the others. `ask` has the application answer a question."""

    def __init__(
        self,
        *,
        node: str,
        pid: int,
        lamport: SharedLamport,
        events: Events,
        timers: Timers,
        ask: Callable[[Question, Callable[[Reply], None]], None],
    ) -> None:
        self._node, self._full_name = node, f"{node}.{pid}"
        self._lamport, self._events, self._timers, self._ask = lamport, events, timers, ask
        self._elections: dict[str, Election] = {}
        #: Other workers by their node names.
        self.peers: dict[str, Peer] = {}
        self._look()

    def __repr__(self) -> str:
        return f"<Gossip {sorted(self.peers)}>"

    def heard(self, _channel: bytes, data: bytes) -> None:
        """Something was published for workers."""
        for event in read_event(data):
            kind, node = str(event.get("type")), event.get("hostname")
            if kind == "worker-elect":
                self._candidate(event)
            elif kind == "worker-elect-ack":
                self._acknowledged(str(event.get("id")))
            elif node == self._node:
                self._lamport.forward()
            elif kind.startswith("worker-") and isinstance(node, str):
                self._worker(kind, node, event)

    # Who is there

    def _worker(self, kind: str, node: str, event: dict[str, Any]) -> None:
        heard = event.get("clock")
        self._lamport.adjust(heard) if isinstance(heard, int) and 0 <= heard < 1 << 62 else self._lamport.forward()
        if kind == "worker-offline":
            self.peers.pop(node, None)
            logger.debug("%s left", node)
            return
        is_new = node not in self.peers
        peer = self.peers.setdefault(node, Peer(node))
        peer.heard_s = clock.monotonic()
        peer.freq_s = _number(event.get("freq"), default=peer.freq_s)
        self._compare_clocks(peer, event)
        if is_new or kind == "worker-online":
            logger.debug("%s joined the party", node)

    @staticmethod
    def _compare_clocks(peer: Peer, event: dict[str, Any]) -> None:
        now = clock.now()
        drift_s = abs(int(now) - int(_number(event.get("timestamp"), default=now)))
        if drift_s > MOST_DRIFT_S and not peer.drift_said:
            peer.drift_said = True
            logger.warning(
                "Substantial drift from %s may mean clocks are out of sync.  Current drift is %s seconds.",
                peer.node,
                drift_s,
            )

    def _look(self) -> None:
        self._timers.set("gossip", LOOK_S, self._look)
        for peer in [peer for peer in self.peers.values() if not peer.alive]:
            del self.peers[peer.node]
            logger.info("missed heartbeat from %s", peer.node)

    # Elections

    def election(self, election_id: str, topic: str, action: Any = None) -> None:
        """Hold an election: all workers that are asked to propose themselves, and the first by clock and name wins."""
        self._election(election_id).ours = True
        self._events.send("worker-elect", {"id": election_id, "topic": topic, "action": action, "cver": 1})

    def _election(self, election_id: str) -> Election:
        while len(self._elections) >= MOST_ELECTIONS and election_id not in self._elections:
            self._elections.pop(next(iter(self._elections)))
        return self._elections.setdefault(election_id, Election())

    def _candidate(self, event: dict[str, Any]) -> None:
        try:
            election_id, name = str(event["id"]), f"{event['hostname']}.{event['pid']}"
            candidate = (int(event["clock"]), name, str(event["topic"]), event["action"])
        except (KeyError, TypeError, ValueError) as error:
            logger.error("election request missing field %s", error)
            return
        self._election(election_id).candidates.append(candidate)
        self._events.send("worker-elect-ack", {"id": election_id})

    def _acknowledged(self, election_id: str) -> None:
        election = self._elections.get(election_id)
        if election is None or not election.ours:
            return
        election.acknowledged += 1
        if election.acknowledged >= sum(peer.alive for peer in self.peers.values()) and election.candidates:
            del self._elections[election_id]
            self._decide(election_id, election)

    def _decide(self, election_id: str, election: Election) -> None:
        _clock, leader, topic, action = min(election.candidates, key=lambda candidate: candidate[:2])
        if leader != self._full_name:
            logger.info("node %s elected for %r", leader, election_id)
            return
        logger.info("I won the election %r", election_id)
        if topic == "task":
            self._ask(Question(kind="call", name="election", data=json.dumps(action).encode()), _called)
        else:
            logger.error("Unknown election topic %r", topic)


def _called(reply: Reply) -> None:
    if reply.failed:
        logger.error("Could not call task: %s", reply.value.decode("utf-8", "replace"))


def _number(value: object, *, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e15 else default
