"""The command `fastq recover`: put what dead workers held back on its queues, with no worker running."""

from __future__ import annotations

import json
import os
from typing import Any

import click
import msgspec

from fastq import log
from fastq.cli.gather import flags_given, gather
from fastq.cli.options import GroupedCommand, global_options
from fastq.cli.worker import enter_workdir, export
from fastq.config.settings import WorkerOptions
from fastq.errors import OptionError

#: Celery's own override of the application's setting; looked at last.
_LAST_VARIABLE = "CELERY_BROKER_URL"


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """Where the claims are."""

    url: str | list[str]
    transport_options: dict[str, Any]
    use_ssl: Any = None


def _recover(ctx: click.Context, transport_options: str | None, **_options: object) -> int:
    """Restore, and say what was done."""
    options = enter_workdir(gather(flags_given(ctx)))
    broker = find_broker(options, transport_options)
    from fastq.transport.redis.recover import recover_all  # redis is not imported for --help
    from fastq.worker.cluster.lease import restore_dead

    log.setup("ERROR")  # the report has all that is less than an error
    report = recover_all(broker.url, broker.transport_options, use_ssl=broker.use_ssl, restore=restore_dead)
    click.echo(report)
    return 0


command: GroupedCommand = GroupedCommand(
    "recover",
    callback=click.pass_context(_recover),
    params=[
        click.Option(
            ["transport_options", "--transport-options"],
            metavar="<JSON>",
            help="The application's broker_transport_options, where no application is given: global_keyprefix, sep, "
            "priority_steps, and visibility_timeout, with which stock workers' messages are restored as well.",
        ),
        *global_options(),
    ],
    help="Put back on its queues what dead workers held. What belongs to living workers stays where it is. "
    "Every running fastq worker on the same broker does the same by itself.",
)


def find_broker(options: WorkerOptions, transport_options: str | None) -> Broker:
    """The broker of the application, or the one of --broker. Raises OptionError if there is neither."""
    given = read_options(transport_options)
    if options.app:
        return _of_application(options, given)
    url = options.broker or os.environ.get(_LAST_VARIABLE)
    if not url:
        raise OptionError("no broker: name it with --broker redis://…, or its application with -A")
    return Broker(url=url, transport_options=given)


def _of_application(options: WorkerOptions, given: dict[str, Any]) -> Broker:
    """This process is no engine: it may import the application, native or Celery's."""
    from fastq.app.find import find_native

    export(options)
    native = find_native(options.app)
    if native is not None:
        return Broker(
            url=options.broker or native.conf.broker_url,
            transport_options={**native.conf.broker_transport_options, **given},
            use_ssl=native.conf.broker_use_ssl or None,
        )
    from fastq.compat.celery.find import find

    conf = find(options).conf
    return Broker(
        url=conf.broker_read_url or conf.broker_url,
        transport_options={**conf.broker_transport_options, **given},
        use_ssl=conf.broker_use_ssl or None,
    )


def read_options(text: str | None) -> dict[str, Any]:
    """The value of --transport-options."""
    try:
        options = json.loads(text or "{}")
    except ValueError as error:
        raise OptionError(f"--transport-options: not JSON: {error}") from error
    if not isinstance(options, dict):
        raise OptionError(f"--transport-options: must be a JSON object, got {text!r}")
    return options
