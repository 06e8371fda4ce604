"""An application that writes down every signal: which, in what kind of process, from whom, and with what."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import click
from billiard import current_process
from celery import Celery, Task, signals

from tests.apps import plain
from tests.apps.build import TaskTable
from tests.apps.ledger import ledger

#: Receivers of setup_logging keep Celery from setting logging up itself, and so from sending what follows.
LOGGING = os.environ.get("FASTQ_TEST_LOGGING") == "own"

#: Celery's own list lacks two.
ALL = (*signals.__all__, "user_preload_options", "import_modules")

NAMES = ["setup_logging"] if LOGGING else [name for name in ALL if name != "setup_logging"]

_receivers: list[Any] = []


def role() -> str:
    """main, child or beat."""
    name = str(current_process()._name)
    if name == "Beat" or "beat" in sys.argv[1:]:
        return "beat"
    return "child" if re.match("ForkPoolWorker", name) else "main"


def kind(sender: Any) -> str:
    """The sender's type, by a word that does not depend on the application."""
    if isinstance(sender, Task):
        return "task"
    if isinstance(sender, Celery):
        return "application"
    return "text" if isinstance(sender, str) else type(sender).__name__.lower()


def tell(name: str) -> Any:
    """A receiver that appends one line."""

    def receiver(sender: Any = None, signal: Any = None, **kwargs: Any) -> None:
        line = {"signal": name, "role": role(), "sender": kind(sender), "arguments": sorted(kwargs)}
        if name == "celeryd_init":
            ledger().write("options", ",".join(sorted(kwargs["options"])))
            ledger().write("shed", str(kwargs["options"]["bikeshed"]))
            kwargs["instance"].app.conf.worker_prefetch_multiplier = 2
        if name == "setup_logging":
            logging.basicConfig(level=kwargs["loglevel"])
        if name == "user_preload_options":
            ledger().write("template", str(kwargs["options"]["template"]))
        if name == "celeryd_after_setup":
            kwargs["instance"].app.amqp.queues.select_add("of_the_receiver")
        with (Path(os.environ["FASTQ_TEST_FOLDER"]) / "signals.txt").open("a") as file:
            file.write(json.dumps(line) + "\n")

    return receiver


if "FASTQ_TEST_FOLDER" in os.environ:
    for each in NAMES:
        _receivers.append(tell(each))
        getattr(signals, each).connect(_receivers[-1])

table = TaskTable()
table.rows = plain.table.rows
app = table.build_from_environment()
app.user_options["worker"].add(click.Option(["--bikeshed"], help="Its colour."))
app.user_options["preload"].add(click.Option(["-Z", "--template"], default="plain", help="Which template."))
