"""Control commands: what changes a running worker. Each hands over to `Actions`, under Celery's parameter names."""

# The parameters are Celery's: clients of any version may send more of them than are used.
# ruff: noqa: A002

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastq.worker.cluster.actions import Reply
from fastq.worker.cluster.commands.state import SILENT, Silence, State, nok, ok

# ---------------------------------------------------------------------------- the worker and its children


def shutdown(state: State, msg: str = "Got shutdown from remote", **kwargs: Any) -> Silence:
    """Shutdown worker(s)."""
    state.actions.shutdown(msg=msg)
    return SILENT


def pool_grow(state: State, n: int = 1, **kwargs: Any) -> Reply:
    """Grow pool by n processes/threads."""
    return _not_with_autoscale(state, "pool_grow") or state.actions.pool_grow(n)


def pool_shrink(state: State, n: int = 1, **kwargs: Any) -> Reply:
    """Shrink pool by n processes/threads."""
    return _not_with_autoscale(state, "pool_shrink") or state.actions.pool_shrink(n)


def _not_with_autoscale(state: State, command: str) -> Reply | None:
    if not state.scaler.on:
        return None
    return nok(f"{command} is not supported with autoscale. Adjust autoscale range instead.")


def pool_restart(
    state: State, modules: Sequence[str] | None = None, reload: bool = False, reloader: object = None, **kwargs: Any
) -> Reply:
    """Restart execution pool."""
    return state.actions.pool_restart(modules=modules, reload=reload, reloader=reloader)


def autoscale(state: State, max: int | None = None, min: int | None = None) -> Reply:
    """Modify autoscale settings."""
    if not state.scaler.on:
        raise ValueError("Autoscale not enabled")
    most, least = state.scaler.limits(max, min)
    return ok(f"autoscale now max={most} min={least}")


# ---------------------------------------------------------------------------- queues


def add_consumer(
    state: State,
    queue: str,
    exchange: str | None = None,
    exchange_type: str | None = None,
    routing_key: str | None = None,
    **options: Any,
) -> Reply:
    """Tell worker(s) to consume from task queue by name."""
    return state.actions.add_consumer(
        queue, exchange=exchange, exchange_type=exchange_type, routing_key=routing_key, options=options
    )


def cancel_consumer(state: State, queue: str, **_: Any) -> Reply:
    """Tell worker(s) to stop consuming from task queue by name."""
    return state.actions.cancel_consumer(queue)


# ---------------------------------------------------------------------------- limits


def rate_limit(state: State, task_name: str, rate_limit: str | float | None, **kwargs: Any) -> Reply:
    """Tell worker(s) to modify the rate limit for a task by type."""
    return state.actions.rate_limit(task_name, rate=rate_limit)


def time_limit(
    state: State, task_name: str | None = None, hard: float | None = None, soft: float | None = None, **kwargs: Any
) -> Reply:
    """Tell worker(s) to modify the time limit for task by type."""
    return state.actions.time_limit(task_name or "", hard=hard, soft=soft)


# ---------------------------------------------------------------------------- revoking


def revoke(
    state: State,
    task_id: str | Sequence[str] | None,
    terminate: bool = False,
    signal: str | int | None = None,
    **kwargs: Any,
) -> Reply:
    """Revoke task by task id (or list of ids)."""
    return state.actions.revoke(task_id, terminate=terminate, signal=signal)


def revoke_by_stamped_headers(
    state: State,
    headers: Mapping[str, Any] | Sequence[str],
    terminate: bool = False,
    signal: str | int | None = None,
    **kwargs: Any,
) -> Reply:
    """Revoke task by header (or list of headers)."""
    return state.actions.revoke_by_stamped_headers(headers, terminate=terminate, signal=signal)


def terminate(state: State, signal: str | int | None, task_id: str | Sequence[str] | None, **kwargs: Any) -> Reply:
    """Terminate task by task id (or list of ids)."""
    return state.actions.terminate(task_id, signal=signal)
