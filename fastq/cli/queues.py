"""The command `fastq queues`: what waits on a broker, by queue and priority, who consumes it, and what is held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
import msgspec

from fastq import log
from fastq.cli.gather import flags_given, gather
from fastq.cli.local import for_people
from fastq.cli.options import GroupedCommand, global_options
from fastq.cli.recover import find_broker
from fastq.cli.worker import enter_workdir

if TYPE_CHECKING:
    from fastq.transport.redis.slot_survey import Holder, Line
    from fastq.transport.redis.survey import Survey

#: Keys of tasks that are shown of those for whose slots somebody waits, and slots of each.
LINES, HOLDERS = 20, 10


def _queues(
    ctx: click.Context, transport_options: str | None, names: tuple[str, ...], *, as_json: bool, **_options: object
) -> int:
    options = enter_workdir(gather(flags_given(ctx)))
    broker = find_broker(options, transport_options)
    from fastq.transport.connect import Endpoint  # redis is not imported for --help
    from fastq.transport.redis.keys import Keys
    from fastq.transport.redis.survey import survey

    log.setup("ERROR")
    urls = [broker.url] if isinstance(broker.url, str) else broker.url
    endpoint = Endpoint.parse(urls, transport_options=broker.transport_options, use_ssl=broker.use_ssl)
    client = endpoint.client(timeout_s=10.0)
    try:
        found = survey(client, keys=Keys.from_options(broker.transport_options), names=_listed(names))
    except Exception as error:
        raise endpoint.explain(error) from error
    finally:
        client.close()
    click.echo(msgspec.json.format(msgspec.json.encode(found)) if as_json else _table(found))
    return 0


def _listed(names: tuple[str, ...]) -> list[str]:
    return [name.strip() for text in names for name in text.split(",") if name.strip()]


def _table(found: Survey) -> str:
    rows = [("queue", "waiting", "by priority", "claimed", "fastq workers", "next")]
    for queue in found.queues:
        by_step = " ".join(f"{step}:{length:,}" for step, length in queue.lengths.items() if length)
        consumers = ", ".join(queue.consumers) or "none"
        rows.append((queue.queue, f"{queue.length:,}", by_step, f"{queue.claimed:,}", consumers, queue.oldest))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    held = f"{found.unacked:,} messages are held by stock workers, of all queues."
    return "\n".join([*lines, held, *_for_slots(found.for_slots)])


def _for_slots(lines: list[Line]) -> Iterator[str]:
    if lines:
        count = sum(line.waiting for line in lines)
        yield f"{count:,} messages are in no queue, since they wait for a slot of their task (max_running):"
    for line in lines[:LINES]:
        key = f" key {line.key}" if line.key else ""
        yield (
            f"  {line.task}{key}: {line.waiting:,} wait, the first ({line.first}) for {for_people(line.first_s)}; "
            f"{len(line.holders):,} of {line.most:,} slots are taken"
        )
        yield from (f"    {_held(holder)}" for holder in line.holders[:HOLDERS])
        if len(line.holders) > HOLDERS:
            yield f"    and {len(line.holders) - HOLDERS:,} more"
    if len(lines) > LINES:
        yield f"  and {len(lines) - LINES:,} more keys: see --json"


def _held(holder: Holder) -> str:
    if not holder.worker:
        return f"{holder.id} is next: it is in its queue, and its slot is kept for {for_people(holder.for_s)}"
    gone = "" if holder.alive else ", which gives no sign of life: the slot is given on within seconds"
    return f"{holder.id} for {for_people(holder.for_s)} on {holder.node}{gone}"


command: GroupedCommand = GroupedCommand(
    "queues",
    callback=click.pass_context(_queues),
    params=[
        click.Option(
            ["names", "-Q", "--queues"], multiple=True, metavar="<names>", help="Further queues, that nobody consumes."
        ),
        click.Option(["as_json", "--json"], is_flag=True, help="As JSON."),
        click.Option(
            ["transport_options", "--transport-options"],
            metavar="<JSON>",
            help="The application's broker_transport_options, where no application is given.",
        ),
        *global_options(),
    ],
    help="Show the queues of a broker: what waits, by priority, what is claimed, and which fastq workers consume it; "
    "and who waits for a slot of a task with max_running, and who has these slots.",
)
