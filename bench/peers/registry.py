"""All systems, in the order of the tables."""

from __future__ import annotations

from bench.peers import arq, celery, dramatiq, fastq, huey, rq, saq, taskiq, watched
from bench.peers.peer import Peer

PEERS: tuple[Peer, ...] = (
    *fastq.PEERS,
    *celery.PEERS,
    *dramatiq.PEERS,
    *rq.PEERS,
    *huey.PEERS,
    *taskiq.PEERS,
    *arq.PEERS,
    *saq.PEERS,
    *watched.PEERS,
)

NAMES: tuple[str, ...] = tuple(dict.fromkeys(peer.name for peer in PEERS))
