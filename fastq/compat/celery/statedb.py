"""The file of --statedb: which tasks are revoked, over restarts, in Celery's own format and by Celery's own code.

The nursery reads it when it starts and writes it when something was revoked and when the worker stops. It is not kept
open: another worker, of either kind, may use it after this one.
"""

from __future__ import annotations

import logging
from typing import Any

from celery.utils.collections import LimitedSet
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.state import Persistent

logger: logging.Logger = get_logger("celery.worker.state")


class _State:
    """What Persistent needs of the module celery.worker.state."""

    def __init__(self) -> None:
        self.revoked = LimitedSet(maxlen=state.REVOKES_MAX, expires=state.REVOKE_EXPIRES)

    def merge_revoked(self, ids: Any) -> None:
        """Take the ids; the stamps of another run say nothing now."""
        self.revoked.update(list(ids or ()))


def read(path: str) -> list[str]:
    """The ids in the file, oldest first; none if it is not there yet, or cannot be read: then the log says so."""
    found = _State()
    try:
        database = Persistent(found, path)
        database.close()
    except Exception as error:
        logger.error("Revoked tasks of earlier runs are not known: cannot read %s: %r", path, error)
    return [str(task_id) for task_id in found.revoked]


def write(path: str, ids: list[str]) -> None:
    """Replace what is in the file."""
    kept = _State()
    try:
        database = Persistent(kept, path)
        kept.revoked.clear()
        kept.merge_revoked(ids)
        database.save()
    except Exception as error:
        logger.error("Cannot write revoked tasks to %s: %r", path, error)
