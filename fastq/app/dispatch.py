"""Send workflows: set chords up in the result store, send everything together, return handles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastq.app import publishing, signals
from fastq.app.task import check_call
from fastq.app.unfold import Call, Header, Node, Plan, Sig, unfold
from fastq.errors import SettingError
from fastq.producer.group import GroupHandle
from fastq.results.chord import setup

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.producer.compose import Push


def dispatch(
    app: FastQ,
    sig: Sig,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Any:
    """Send a signature now. Raises BrokerError, ResultsUnavailable, OptionError or SettingError.

    Raises TypeError, before anything is sent, if one of the tasks that are sent now does not take its arguments. Later
    steps of a chain, and bodies, get theirs from what comes before: they fail where they run.
    """
    given = {name: _plain(value) for name, value in options.items() if value is not None}
    plan, node = unfold(sig, args, kwargs, **app._lineage(), **given)
    for call in plan.calls:
        if (task := app.tasks.get(call.name)) is not None:
            check_call(task, call.args, call.kwargs)
    send(app, plan)
    app._sent(node)
    return handle_of(app, node, said={call.options.get("task_id"): call.options for call in plan.calls})


def _plain(value: Any) -> Any:
    """Links may be given as signatures."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return getattr(value, "fields", value)


def send(app: FastQ, plan: Plan) -> None:
    """Carry out a plan: what counts a chord's parts is there before its first task can end."""
    producer = app.producer
    set_up(app, plan.headers)
    sent = list(composed(app, plan.calls))
    producer.push([push for push, _ in sent])
    tell(app, sent)


def set_up(app: FastQ, headers: Sequence[Header]) -> None:
    """Make the result store ready for the parts of chords. Raises ResultsUnavailable."""
    if not headers:
        return
    if not app.conf.result_backend:
        raise SettingError("a chord counts in the result store, and result_backend is not set")
    commands = [
        setup(
            key_prefix(app), one.group_id, size=one.size, shape=one.shape, expires_s=int(app.conf.result_expires or 0)
        )
        for one in headers
    ]
    app.producer.results.run(b"".join(data for _, data in commands), sum(count for count, _ in commands))


def key_prefix(app: FastQ) -> str:
    """What stands before keys of the result store."""
    return str(app.conf.result_backend_transport_options.get("global_keyprefix") or "")


def composed(app: FastQ, calls: Sequence[Call]) -> Iterator[tuple[Push, Call]]:
    """The messages of calls, ready to be pushed, each with the call as it became."""
    for call in calls:
        task = app.tasks.get(call.name) or call.name
        once = {"unique": False} if not isinstance(task, str) and task.is_unique else {}
        name, chosen, _ = app._prepared(task, call.args, call.kwargs, {**call.options, **once})
        made = Call(name=name, args=call.args, kwargs=call.kwargs, options=chosen)
        yield app.producer.compose(name, call.args, call.kwargs, **chosen), made


def tell(app: FastQ, sent: Sequence[tuple[Push, Call]]) -> None:
    """Tell receivers of messages that the broker has."""
    if signals.after_task_publish.receivers:
        publishing.after(app, [call for _, call in sent])


#: What messages say, by the ids of their tasks.
Said = Mapping[str | None, Mapping[str, Any]]


def handle_of(app: FastQ, node: Node, *, said: Said) -> Any:
    """The handle of a node, and of those before it: of a task or of a group."""
    found = None
    # From the first to the last: there may be more of them than Python lets functions call each other.
    for one in reversed([node, *node.before()]):
        found = _handle(app, one, parent=found, said=said)
    return found


def _handle(app: FastQ, node: Node, *, parent: Any, said: Said) -> Any:
    if node.members is not None:
        return GroupHandle(node.id, [handle_of(app, member, said=said) for member in node.members], parent=parent)
    task = app.tasks.get(node.name)
    found = app.producer.handle(node.id, **({"decode": task.decode} if task is not None else {}))
    found.parent = parent
    asked = said.get(node.id, node.options).get("ignore_result")
    found.ignored = bool(app.ignores_results(task) if asked is None else asked)
    return found
