"""The command `fastq dlq`: look at messages that were put aside, send them again, or drop them.

No application is imported where `--broker` is given.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.gather import flags_given, gather
from fastq.cli.options import GroupedCommand, global_options
from fastq.cli.recover import find_broker
from fastq.cli.worker import enter_workdir
from fastq.errors import OptionError

if TYPE_CHECKING:
    import redis

    from fastq.transport.redis.deadletters import Found
    from fastq.transport.redis.keys import Keys

#: Letters that `list` shows unless it is asked for more.
SHOWN = 50

ACTIONS = ("list", "show", "replay", "drop")


def _dlq(ctx: click.Context, action: str, ids: Sequence[str], transport_options: str | None, **options: Any) -> int:
    given = enter_workdir(gather(flags_given(ctx)))
    broker = find_broker(given, transport_options)
    from fastq.transport.connect import Endpoint  # redis is not imported for --help
    from fastq.transport.redis.keys import Keys

    keys = Keys.from_options(broker.transport_options)
    endpoint = Endpoint.parse(broker.url, transport_options=broker.transport_options, use_ssl=broker.use_ssl)
    with _connected(endpoint) as client:
        found = list(_chosen(client, keys, ids=ids, action=action, **options))
        if action == "list":
            return _list(found, as_json=options["as_json"], limit=options["limit"])
        if action == "show":
            return _show(found, as_json=options["as_json"])
        return _change(client, keys, found, action=action)


@contextlib.contextmanager
def _connected(endpoint: Any) -> Iterator[redis.Redis]:
    import redis

    endpoint.open().close()  # finds the living one of several addresses, and says what is wrong
    client = endpoint.client()
    try:
        yield client
    except redis.RedisError as error:
        raise endpoint.explain(error) from error
    finally:
        client.close()


def _chosen(
    client: redis.Redis,
    keys: Keys,
    *,
    ids: Sequence[str],
    action: str,
    queue: Sequence[str],
    reason: Sequence[str],
    everything: bool,
    **_rest: object,
) -> Iterator[Found]:
    from fastq.transport.redis.deadletters import letters

    if action != "list" and bool(ids) == everything:
        raise OptionError(f"{action}: name the ids of messages, or --all (with --queue and --reason, if you like)")
    wanted, met = set(ids), set()
    for found in letters(client, keys=keys, queues=queue):
        if (not wanted or found.letter.id in wanted) and (not reason or found.letter.reason in reason):
            met.add(found.letter.id)
            yield found
    if missing := wanted - met:
        raise OptionError(f"{action}: no dead letter has the id {', '.join(sorted(missing))}")


def _list(found: Sequence[Found], *, as_json: bool, limit: int) -> int:
    for each in found[:limit]:
        letter = each.letter
        if as_json:
            click.echo(json.dumps(_facts(each), ensure_ascii=False))
        else:
            name = letter.task or "?"
            click.echo(f"{_when(letter.at)}  {each.queue_key:<16} {letter.reason:<11} {letter.id or '-':<36} {name}")
    if not as_json:
        more = f", {len(found) - limit} more with --limit" if len(found) > limit else ""
        click.echo(f"{len(found)} dead letter{'' if len(found) == 1 else 's'}{more}")
    return 0


def _show(found: Sequence[Found], *, as_json: bool) -> int:
    for each in found:
        if as_json:
            click.echo(json.dumps(_facts(each, whole=True), ensure_ascii=False))
            continue
        letter = each.letter
        click.echo(f"{letter.id or 'a message without id'} ({letter.task or 'no task'}) of the queue {each.queue_key}")
        click.echo(f"  put aside {_when(letter.at)} by {letter.node or '?'}: {letter.reason}: {letter.detail}")
        for death in letter.deaths:
            click.echo(f"  {_when(death.at)}  {_story(death)}")
            click.echo("".join(f"    {line}\n" for line in death.stack.splitlines()), nl=False)
        click.echo(f"  {letter.shown}")
    return 0


def _story(death: Any) -> str:
    words = [f"{death.node} pid {death.pid}: {death.reason}"]
    words += [f"peak memory {death.peak_kib / 1024:.1f} MiB"] if death.peak_kib else []
    words += [f"the control group was out of memory ({death.oom_kills} killed)"] if death.oom_kills else []
    return ", ".join(words)


def _facts(each: Found, *, whole: bool = False) -> dict[str, Any]:
    import msgspec

    facts: dict[str, Any] = {"queue": each.queue_key, **msgspec.to_builtins(each.letter)}
    return (
        facts if whole else {name: value for name, value in facts.items() if name not in ("text", "base64", "deaths")}
    )


def _change(client: redis.Redis, keys: Keys, found: Sequence[Found], *, action: str) -> int:
    from fastq.transport.redis.deadletters import drop, replay

    change = replay if action == "replay" else drop
    # The oldest first, so that they are on their queue in the order in which they were put aside.
    changed = sum(change(client, each, keys=keys) for each in reversed(found))
    done = "sent to their queues again" if action == "replay" else "dropped"
    gone = f"; {len(found) - changed} were gone" if changed != len(found) else ""
    click.echo(f"{changed} dead letter{'' if changed == 1 else 's'} {done}{gone}")
    return 0


def _when(at: float) -> str:
    moment = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S") if at else "-"


command: GroupedCommand = GroupedCommand(
    "dlq",
    callback=click.pass_context(_dlq),
    params=[
        click.Argument(["action"], type=click.Choice(ACTIONS)),
        click.Argument(["ids"], nargs=-1),
        click.Option(["queue", "-Q", "--queue"], multiple=True, help="Only letters of this queue; may be repeated."),
        click.Option(
            ["reason", "--reason"],
            multiple=True,
            type=click.Choice(["crashes", "retries", "unknown", "undecodable"]),
            help="Only letters that were put aside for this; may be repeated.",
        ),
        click.Option(["everything", "--all"], is_flag=True, help="All of them, instead of ids."),
        click.Option(["as_json", "--json"], is_flag=True, help="One JSON object a line."),
        click.Option(["limit", "--limit"], type=int, default=SHOWN, show_default=True, help="How many `list` shows."),
        click.Option(
            ["transport_options", "--transport-options"],
            metavar="<JSON>",
            help="The application's broker_transport_options, where no application is given.",
        ),
        *global_options(),
    ],
    help="Look at messages that were put aside (list, show IDS), send them to their queues again, as they were "
    "(replay), or drop them (drop).",
)
