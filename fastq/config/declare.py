"""How a setting is declared: the form that `fastq/config/settings.py` fills in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

GLOBAL = "Global Options"
WORKER = "Worker Options"
POOL = "Pool Options"
QUEUES = "Queue Options"
FEATURES = "Features"
BEAT = "Embedded Beat Options"
DAEMON = "Daemonization Options"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting. Its name and type are those of the field of `WorkerOptions` that carries it."""

    flags: tuple[str, ...]
    group: str
    #: One sentence, for --help and the reference.
    doc: str
    #: Turns the text of the command line or of a variable into the value; None for a switch.
    read: Callable[[str], Any] | None = None
    unit: str = ""
    #: The application's setting that decides when the option is not given.
    celery: str = ""
    #: The variable, after FASTQ_WORKER_ and CELERY_WORKER_ (or FASTQ_ and CELERY_); empty: the name in capitals.
    variable: str = ""
    #: Celery's older names of the variable, without prefix. They win over CELERY_…, as in Celery.
    bare_variables: tuple[str, ...] = ()
    #: Why it is accepted and has no effect yet. Empty for what works.
    not_yet: str = ""
    #: Only fastq has it: no variable of Celery's is looked at, which might mean something else.
    own: bool = False
    #: Values that ask for what happens anyway, and so need no remark.
    harmless: tuple[Any, ...] = ()


def declare(*flags: str, group: str, doc: str, **facts: Any) -> Setting:
    return Setting(flags=flags, group=group, doc=doc, **facts)
