"""Apply what an application's own settings say about the process: its user, its group, its file mask, its pidfile.

Options of the command line have been applied by then, by the engine, and win.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from fastq.config import values
from fastq.config.identity import Identity, become, identity
from fastq.config.settings import WorkerOptions


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What has been applied here, and that the engine has to do likewise."""

    identity: Identity = Identity()
    umask: int | None = None
    pidfile: str | None = None
    control_timeout_s: float = 30.0


def settle_in(app: Any, options: WorkerOptions) -> Settled:
    """Become what `worker_uid`, `worker_gid` and `worker_umask` say. Raises OptionError.

    Celery does so, too, when the application has been imported.
    """
    found = Settled(
        identity=_identity(app, options),
        umask=None if options.umask is not None else _umask(_setting(app, "worker_umask")),
        pidfile=options.pidfile or _setting(app, "worker_pidfile"),
        control_timeout_s=options.control_timeout,
    )
    if found.umask is not None:
        os.umask(found.umask)
    become(found.identity)
    return found


def _identity(app: Any, options: WorkerOptions) -> Identity:
    if options.uid is not None or options.gid is not None:
        return Identity()
    return identity(_setting(app, "worker_uid"), _setting(app, "worker_gid"))


def _umask(value: Any) -> int | None:
    return values.umask(value) if isinstance(value, str) else value


def _setting(app: Any, name: str) -> Any:
    """Settings of daemons are not in Celery's list of defaults."""
    return getattr(app.conf, name, None)
