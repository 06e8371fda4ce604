"""The command `fastq queues`: what waits on a broker, by queue and priority, who consumes it, and what is held."""

from __future__ import annotations

import click
import msgspec

from fastq import log
from fastq.cli.gather import flags_given, gather
from fastq.cli.options import GroupedCommand, global_options
from fastq.cli.recover import find_broker
from fastq.cli.worker import enter_workdir


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


def _table(found: object) -> str:
    from fastq.transport.redis.survey import Survey

    assert isinstance(found, Survey)
    rows = [("queue", "waiting", "by priority", "claimed", "fastq workers", "next")]
    for queue in found.queues:
        by_step = " ".join(f"{step}:{length:,}" for step, length in queue.lengths.items() if length)
        consumers = ", ".join(queue.consumers) or "none"
        rows.append((queue.queue, f"{queue.length:,}", by_step, f"{queue.claimed:,}", consumers, queue.oldest))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, f"{found.unacked:,} messages are held by stock workers, of all queues."])


command = GroupedCommand(
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
    help="Show the queues of a broker: what waits, by priority, what is claimed, and which fastq workers consume it.",
)
