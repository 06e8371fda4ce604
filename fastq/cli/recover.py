"""The command `fastq recover`: put what dead workers held back on its queues, with no worker running."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from fastq.config.settings import variables
from fastq.errors import OptionError

#: Looked at after the variables of --broker: Celery's own override of the application's setting.
_LAST_VARIABLE = "CELERY_BROKER_URL"


def _recover(broker: str | None, transport_options: str | None) -> int:
    """Restore, and say what was done."""
    url, options = broker_url(broker), read_options(transport_options)
    from fastq.transport.redis.recover import recover_all  # redis is not imported for --help

    report = recover_all(url, options)
    click.echo(report)
    return 0


command = click.Command(
    "recover",
    callback=_recover,
    params=[
        click.Option(["broker", "-b", "--broker"], help=f"URL of the broker.  [env: {', '.join(variables('broker'))}]"),
        click.Option(
            ["transport_options", "--transport-options"],
            metavar="<JSON>",
            help="The application's broker_transport_options, as far as they say where its keys are "
            '(global_keyprefix, sep, priority_steps), such as \'{"global_keyprefix": "shop:"}\'.',
        ),
    ],
    help="Put back on its queues what dead workers held. What belongs to living workers stays where it is. "
    "Any running fastq worker on the same broker does the same by itself.",
)


def broker_url(given: str | None) -> str:
    """The URL of the command line, else of the environment. Raises OptionError if there is none."""
    names = (*variables("broker"), _LAST_VARIABLE)
    url = given or next((os.environ[name] for name in names if os.environ.get(name)), None)
    if url is None:
        raise OptionError("no broker: name it with --broker redis://…, or in BROKER_URL")
    return url


def read_options(text: str | None) -> dict[str, Any]:
    try:
        options = json.loads(text or "{}")
    except ValueError as error:
        raise OptionError(f"--transport-options: not JSON: {error}") from error
    if not isinstance(options, dict):
        raise OptionError(f"--transport-options: must be a JSON object, got {text!r}")
    return options
