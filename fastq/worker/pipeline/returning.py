"""Give messages back to their queues when the worker stops: those that no child has started."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from fastq.transport.connect import Endpoint
from fastq.transport.redis.giveback import Place, give_back
from fastq.worker.pipeline.intake import QueueKey

logger: logging.Logger = logging.getLogger(__name__)


def return_messages(
    withdrawn: Sequence[tuple[int, int, int, int]], *, keys: Sequence[QueueKey], endpoint: Endpoint
) -> Iterator[list[int]]:
    """The entries that are back, chunk by chunk; `withdrawn` are (entry, key number, claim list number, position).

    Blocks. What goes wrong is logged: such messages go back when this worker's lease ends.
    """
    places = [
        Place(
            entry=entry,
            queue=keys[key].key,
            claim=keys[key].claim_prefix + b"%d" % number,
            number=number,
            position=position,
        )
        for entry, key, number, position in withdrawn
    ]
    client = endpoint.client(timeout_s=10.0)
    try:
        yield from give_back(client, places)
    except Exception as error:
        logger.error("Could not give messages back: %s. They go back when this worker's lease ends.", error)
    finally:
        client.close()
