"""The command `fastq schedule`: the entries of a native application, when they are due, and who sends them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
import msgspec

from fastq import log
from fastq.cli.gather import flags_given, gather
from fastq.cli.options import GroupedCommand, global_options
from fastq.cli.worker import enter_workdir, require_application
from fastq.errors import ApplicationError

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.config.settings import WorkerOptions


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, as it is shown. Milliseconds since 1970; None: never."""

    name: str
    task: str
    schedule: str
    next_ms: int | None
    #: The due time that was done last, and when it was sent.
    last_ms: int | None
    sent_ms: int | None
    missed: str | int


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What the command prints."""

    app: str
    #: Term and name of who sends; "" for nobody.
    leader: str
    now_ms: int
    entries: list[Line]


def _schedule(ctx: click.Context, *, as_json: bool, **_options: object) -> int:
    options = enter_workdir(gather(flags_given(ctx)))
    require_application(options)
    log.setup("ERROR")
    app = native_application(options, purpose="fastq schedule")
    found = look(app)
    click.echo(msgspec.json.format(msgspec.json.encode(found)) if as_json else _table(found, zone=app.conf.timezone))
    return 0


def native_application(options: WorkerOptions, *, purpose: str) -> FastQ:
    """The native application that -A names, its tasks imported. Raises ApplicationError."""
    from fastq.app.find import find_native, import_tasks

    app = find_native(options.app)
    if app is None:
        raise ApplicationError(
            f"-A {options.app}: {purpose} is for native applications, this is Celery's: see its "
            "beat_schedule, and what `fastq beat` logs"
        )
    if options.broker:
        app.conf.update({"broker_url": options.broker}, where="the command line")
    import_tasks(app)
    return app


def look(app: FastQ) -> Shown:
    """Ask the broker. Raises ScheduleError, or a SurroundingsError if it cannot be asked."""
    from fastq.app.beat import open_store

    endpoint, store = open_store(app)
    try:
        leader, states, now_ms = store.look()
    except Exception as error:
        raise endpoint.explain(error) from error
    lines = []
    for name, entry in sorted(app.entries().items()):
        state = states.get(name)
        known = state is not None and state.spec == entry.schedule.spec
        last_ms = state.last_ms if state is not None and known else now_ms
        lines.append(
            Line(
                name=name,
                task=entry.task,
                schedule=entry.schedule.spec,
                next_ms=entry.schedule.after(last_ms),
                last_ms=state.last_ms if state is not None and state.sent_ms else None,
                sent_ms=state.sent_ms if state is not None and state.sent_ms else None,
                missed=entry.missed,
            )
        )
    return Shown(app=app.name, leader=leader, now_ms=now_ms, entries=lines)


def _table(found: Shown, *, zone: str) -> str:
    place: Any = timezone.utc if zone.upper() == "UTC" else ZoneInfo(zone)

    def shown(moment_ms: int | None) -> str:
        if moment_ms is None:
            return "never"
        return datetime.fromtimestamp(moment_ms / 1000, place).strftime("%Y-%m-%d %H:%M:%S")

    rows = [("entry", "schedule", f"next ({zone})", "last", "task")]
    for line in found.entries:
        late = " (late)" if line.next_ms is not None and line.next_ms < found.now_ms else ""
        rows.append((line.name, line.schedule, shown(line.next_ms) + late, shown(line.last_ms), line.task))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    leader = f"{found.leader.partition(' ')[2]} sends, term {found.leader.partition(' ')[0]}"
    return "\n".join([*lines, f"{found.app}: {leader}." if found.leader else f"{found.app}: nobody sends now."])


command: GroupedCommand = GroupedCommand(
    "schedule",
    callback=click.pass_context(_schedule),
    params=[click.Option(["as_json", "--json"], is_flag=True, help="As JSON."), *global_options()],
    help="Show the schedule of a native application: entries, when each is due and was sent last, and who sends.",
)
