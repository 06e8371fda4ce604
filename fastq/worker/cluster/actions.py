"""What an operator may change in a running worker: one method for each of Celery's control commands that does so.

Whoever answers remote control calls these and sends what they return: Celery's own replies, `{"ok": ...}` or
`{"error": ...}`. None of them blocks; what needs the broker is done afterwards, in the loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Reply: TypeAlias = dict[str, Any]


class Actions:
    """Changes to one worker. Called by the engine's thread only."""

    # Queues

    def add_consumer(
        self,
        queue: str,
        *,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Consume one more queue from now on: one that the application declares, or a new one."""
        return _refused("add_consumer")

    def cancel_consumer(self, queue: str) -> Reply:
        """Claim no more from a queue; what has been claimed still runs."""
        return _refused("cancel_consumer")

    # Limits

    def rate_limit(self, task: str, *, rate: str | float | None) -> Reply:
        """Hold a task to another rate; 0 or None for none."""
        return _refused("rate_limit")

    def time_limit(self, task: str, *, hard: float | None = None, soft: float | None = None) -> Reply:
        """Give a task other time limits in seconds, for messages that are claimed from now on; None for none."""
        return _refused("time_limit")

    # Revoking

    def revoke(
        self, ids: str | Sequence[str] | None, *, terminate: bool = False, signal: str | int | None = None
    ) -> Reply:
        """Do not start these tasks; with `terminate`, end those that run by `signal` (SIGTERM)."""
        return _refused("revoke")

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any] | Sequence[str],
        *,
        terminate: bool = False,
        signal: str | int | None = None,
    ) -> Reply:
        """The same for all tasks with one of these stamps: {header: stamp or stamps}, or ["header=stamp"]."""
        return _refused("revoke_by_stamped_headers")

    def terminate(self, ids: str | Sequence[str] | None, *, signal: str | int | None = None) -> Reply:
        """As `revoke` with `terminate`."""
        return self.revoke(ids, terminate=True, signal=signal)

    def revoked(self) -> list[str]:
        """The ids that are revoked, oldest first: for `inspect revoked`, and for a worker that says hello."""
        return []

    def merge_revoked(self, ids: Sequence[str] | Mapping[str, Any] | None) -> None:
        """Revoke what other workers say is revoked (mingle)."""

    # Children

    def pool_grow(self, n: int = 1) -> Reply:
        """Have `n` more children."""
        return _refused("pool_grow")

    def pool_shrink(self, n: int = 1) -> Reply:
        """Have `n` fewer children. Those that run a task leave after it, idle ones first."""
        return _refused("pool_shrink")

    def pool_restart(
        self, *, modules: Sequence[str] | None = None, reload: bool = False, reloader: object = None
    ) -> Reply:
        """Replace all children, each after the task that it runs (`worker_pool_restarts`)."""
        return _refused("pool_restart")

    # The worker

    def shutdown(self, *, msg: str = "Got shutdown from remote") -> None:
        """Stop the worker as TERM would. Never answers, as with Celery."""


def _refused(command: str) -> Reply:
    return {"error": f"{command} is not there yet"}
