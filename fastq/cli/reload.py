"""The command `fastq reload`: have the workers of this host load their application again, and wait for it."""

from __future__ import annotations

import os

import click
import msgspec

from fastq import clock
from fastq.cli.local import chosen, for_people, node_option
from fastq.ipc.segment import is_held
from fastq.monitor.local import RELOAD_SIGNAL, LocalWorker

#: Exit code if an application could not be loaded again.
FAILED = 1

#: Seconds between looks.
LOOK_S = 0.05


class Asked(msgspec.Struct, frozen=True):
    """A worker, and what it had counted before it was asked."""

    worker: LocalWorker
    well: int
    failed: int


def _reload(node: str | None, *, timeout: float) -> int:
    asked = [_ask(worker) for worker in chosen(node)]
    began = clock.monotonic()
    results = [_wait(each, until=began + timeout) for each in asked]
    for each, (_well, says) in zip(asked, results, strict=True):
        click.echo(f"{each.worker.node}: {says}")
    click.echo(f"{for_people(clock.monotonic() - began)}", err=True)
    return 0 if all(well for well, _says in results) else FAILED


def _ask(worker: LocalWorker) -> Asked:
    asked = Asked(worker, worker.board.figure("reloads"), worker.board.figure("reloads_failed"))
    os.kill(worker.pid, RELOAD_SIGNAL)
    return asked


def _wait(asked: Asked, *, until: float) -> tuple[bool, str]:
    board = asked.worker.board
    while clock.monotonic() < until:
        if board.figure("reloads") > asked.well:
            return True, "reloaded"
        if board.figure("reloads_failed") > asked.failed:
            return False, "the application could not be loaded; the worker goes on with what it has (see its log)"
        if not is_held(asked.worker.segment.path):
            return True, "starts again, because settings of the engine have changed (see its log)"
        clock.sleep(LOOK_S)
    return False, "not reloaded in time: the application takes longer to load, or the worker is starting or stopping"


command: click.Command = click.Command(
    "reload",
    callback=_reload,
    params=[
        node_option(),
        click.Option(
            ["timeout", "--timeout"], type=float, default=120.0, show_default=True, metavar="<seconds>",
            help="How long to wait for new children. The reload goes on after it.",
        ),
    ],
    help="Load the application again in this host's workers, and wait until new children run all tasks. "
    "The same as HUP. Exit code 1 if it could not be loaded.",
)  # fmt: skip
