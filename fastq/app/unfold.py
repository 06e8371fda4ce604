"""From a signature to what is sent now, and what travels in it for later. No input, no output.

Signatures are Celery's dictionaries here, whoever made them: a program that sends a workflow and a worker that carries
it on do the same. Before anything is sent, every task of a workflow gets its id (`freeze`), so that whatever is sent
twice after a crash has the same ids.

- Of a chain, the first task is sent; the others travel in it, last first (`chain` in the third part of its body).
- Of a group, every task is sent.
- Of a chord, every task of the header is sent, and each carries the body. Who ends the last of them sends the body.
- A group that something follows is a chord.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from fastq.errors import OptionError
from fastq.producer.ids import uuids
from fastq.producer.options import Options

#: A signature as it travels: task, args, kwargs, options, subtask_type, immutable.
Sig = dict[str, Any]

#: Options of a signature that are options of a send. Others concern Celery's own way of sending, or the workflow.
_SENT: Final = frozenset(Options.__struct_fields__) - {"retries", "embed"}

#: What may be said of a signature.
OPTIONS: Final = _SENT | {"link", "link_error"}

#: What a chain or chord passes on by itself, and not as an option of what it sends first.
_OF_THE_WHOLE: Final = ("task_id", "chord", "group_id", "group_index", "link", "link_error", "chain")

#: So many are written into each other at most: who reads JSON reads no lists of any depth.
_PARENTS: Final = 100


class Node:
    """What will have a result: a task, or a group with its members; and what comes before it."""

    __slots__ = ("id", "members", "name", "options", "parent")

    def __init__(
        self, task_id: str, name: str, *, members: list[Node] | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        self.id: str = task_id
        self.name: str = name
        self.members: list[Node] | None = members
        #: Those of its signature.
        self.options: Mapping[str, Any] = options or {}
        self.parent: Node | None = None

    def before(self) -> list[Node]:
        """Those that come before it, the nearest first."""
        found, node = list[Node](), self.parent
        while node is not None:
            found.append(node)
            node = node.parent
        return found

    def first(self) -> Node:
        """The earliest of those that come before it, or itself."""
        return (self.before() or [self])[-1]

    def as_tuple(self) -> list[Any]:
        """As Celery writes results down: [[id, parent], members]; of a long chain the nearest parents only."""
        written: Any = None
        for node in reversed([self, *self.before()[:_PARENTS]]):
            members = None if node.members is None else [member.as_tuple() for member in node.members]
            written = [[node.id, written], members]
        return written  # type: ignore[no-any-return]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One message to send."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: dict[str, Any]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the result store has to know before the tasks of a chord's header are sent."""

    group_id: str
    #: Tasks whose ends are counted.
    size: int
    #: The results' shape, if it is no plain list.
    shape: list[Any] | None


class Plan(msgspec.Struct, frozen=True):
    """All that is sent for one workflow now."""

    calls: list[Call]
    headers: list[Header]


def kind_of(sig: Mapping[str, Any]) -> str:
    """task, chain, group or chord; celery.map and its like are tasks."""
    found = sig.get("subtask_type")
    return found if found in ("chain", "group", "chord") else "task"


def signature(
    task: str,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    kind: str | None = None,
    immutable: bool = False,
) -> Sig:
    """One signature, in the order of Celery's keys."""
    return {
        "task": task,
        "args": list(args),
        "kwargs": dict(kwargs or {}),
        "options": dict(options or {}),
        "subtask_type": kind,
        "immutable": immutable,
    }


def chain_of(tasks: Iterable[Sig], **options: Any) -> Sig:
    """The signature of a chain."""
    return signature("celery.chain", kwargs={"tasks": list(tasks)}, options=options, kind="chain")


def group_of(tasks: Iterable[Sig], **options: Any) -> Sig:
    """The signature of a group."""
    return signature("celery.group", kwargs={"tasks": list(tasks)}, options=options, kind="group")


def chord_of(header: Sig, body: Sig, **options: Any) -> Sig:
    """The signature of a chord."""
    return signature(
        "celery.chord", kwargs={"kwargs": {}, "header": header, "body": body}, options=options, kind="chord"
    )


def tasks_of(sig: Mapping[str, Any]) -> list[Sig]:
    """The tasks of a chain or group, or of the header of a chord, as they are written."""
    kwargs = sig["kwargs"]
    found = kwargs["header"] if kind_of(sig) == "chord" else kwargs["tasks"]
    return list(found["kwargs"]["tasks"]) if isinstance(found, dict) else list(found)


# ---------------------------------------------------------------------------- what is meant


def steps_of(tasks: Iterable[Sig]) -> list[Sig]:
    """The steps of a chain, last first, as they travel: chains in it are spliced, groups before a step are chords."""
    left, found = list(_spliced(tasks)), list[Sig]()
    while left:
        step = left.pop()
        if kind_of(step) == "group":
            members = members_of(step)
            if len(members) == 1:
                left += _spliced(members)
                continue
            if not members and left and not found:
                continue
            if found:
                step = chord_of(group_of(members, **step["options"]), found.pop())
        if kind_of(step) == "chord" and _is_led_by_task(step["kwargs"]["body"]):
            first, *rest = _spliced([step["kwargs"]["body"]])
            left += [{**step, "kwargs": {**step["kwargs"], "body": first}}, *rest]
            continue
        found.append(step)
    return found


def _spliced(tasks: Iterable[Sig]) -> Iterator[Sig]:
    for task in tasks:
        if kind_of(task) == "chain":
            yield from _spliced(linked(task))
        else:
            yield task


def _is_led_by_task(body: Mapping[str, Any]) -> bool:
    # Every task of the header carries the body: the rest of a long chain must not be in each of them.
    return kind_of(body) == "chain" and bool(tasks_of(body)) and kind_of(tasks_of(body)[0]) != "group"


def members_of(group: Mapping[str, Any]) -> list[Sig]:
    """The members of a group, those of groups in it among them; what errors of the group call is in each."""
    errors = _listed(group["options"].get("link_error"))
    found = []
    for task in tasks_of(group):
        if kind_of(task) == "group":
            found += members_of(_with_links(task, errors=errors))
        elif kind_of(task) != "chain" or tasks_of(task):
            found.append(_with_links(task, errors=errors))
    return found


def linked(chain: Mapping[str, Any]) -> list[Sig]:
    """The tasks of a chain, with what the chain itself is linked to: an error of any calls its error callbacks."""
    options, tasks = chain["options"], tasks_of(chain)
    errors, links = _listed(options.get("link_error")), _listed(options.get("link"))
    found = [_with_links(task, errors=errors) for task in tasks]
    if found and links:
        found[-1] = _with_links(found[-1], links=links)
    if found and chain["args"]:
        found[0] = partial(found[0], chain["args"])
    return found


def _with_links(sig: Sig, *, links: Sequence[Any] = (), errors: Sequence[Any] = ()) -> Sig:
    options = dict(sig["options"])
    for name, more in (("link", links), ("link_error", errors)):
        if more:
            old = _listed(options.get(name))
            options[name] = [*old, *(one for one in more if one not in old)]
    return {**sig, "options": options}


def partial(sig: Sig, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Sig:
    """The same with arguments before its own, unless it takes none."""
    if sig.get("immutable"):
        return sig
    return {**sig, "args": [*args, *sig["args"]], "kwargs": {**sig["kwargs"], **(kwargs or {})}}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def count(sig: Sig) -> int:
    """How many ends of tasks a member of a header contributes."""
    kind = kind_of(sig)
    if kind == "group":
        return sum(map(count, members_of(sig)))
    if kind == "chain":
        steps = steps_of(tasks_of(sig))
        return count(steps[0]) if steps else 0
    return count(sig["kwargs"]["body"]) if kind == "chord" else 1


# ---------------------------------------------------------------------------- ids


def freeze(sig: Sig, **given: Any) -> tuple[Sig, Node]:
    """The same with an id for every task. `given`: task_id, group_id, group_index, chord.

    Its own id stays, and its own group unless it counts for a chord.
    """
    options = dict(sig["options"])
    if given.get("chord"):
        options.pop("group_id", None)
    for name in ("task_id", "group_id"):
        if given.get(name):
            options.setdefault(name, given[name])
    for name in ("chord", "group_index"):
        if given.get(name) is not None:
            options[name] = given[name]
    sig = {**sig, "options": options}
    return _FREEZERS[kind_of(sig)](sig, options)


def _freeze_task(sig: Sig, options: dict[str, Any]) -> tuple[Sig, Node]:
    if not options.get("task_id"):
        options["task_id"] = uuids(1)[0]
    return sig, Node(options["task_id"], sig["task"], options=options)


def _freeze_chain(sig: Sig, options: dict[str, Any]) -> tuple[Sig, Node]:
    steps, node = freeze_steps(linked(sig), options)
    kept = {name: value for name, value in options.items() if name not in ("link", "link_error")}
    found = {**sig, "args": [], "kwargs": {"tasks": steps[::-1]}, "options": {**kept, "task_id": node.id}}
    return found, node


def freeze_steps(tasks: Iterable[Sig], options: Mapping[str, Any]) -> tuple[list[Sig], Node]:
    """The steps of a chain, last first, and the node of the last; it is what the chain's own options are about."""
    steps = steps_of(tasks)
    if not steps:
        raise OptionError("a chain without tasks cannot be sent")
    given = {name: options.get(name) for name in ("task_id", "group_id", "group_index", "chord")}
    frozen, nodes = [], []
    for number, step in enumerate(steps):
        found, node = freeze(step, **({} if number else given))
        frozen.append(found)
        nodes.append(node)
    for later, earlier in itertools.pairwise(nodes):
        later.first().parent = earlier
    return frozen, nodes[0]


def _freeze_group(sig: Sig, options: dict[str, Any]) -> tuple[Sig, Node]:
    if not options.get("task_id"):
        options["task_id"] = uuids(1)[0]
    # Members that count for a chord count for its group; else they are of this one, as they are told when sent.
    outer = {name: options[name] for name in ("group_id", "chord")} if options.get("chord") else {}
    frozen, nodes = [], []
    for index, member in enumerate(members_of(sig)):
        found, node = freeze(member, group_index=index, **outer)
        frozen.append(found)
        nodes.append(node)
    kept = {name: value for name, value in options.items() if name != "link_error"}
    return {**sig, "kwargs": {"tasks": frozen}, "options": kept}, Node(options["task_id"], sig["task"], members=nodes)


def _freeze_chord(sig: Sig, options: dict[str, Any]) -> tuple[Sig, Node]:
    written = sig["kwargs"]["header"]
    header, before = freeze(written if isinstance(written, dict) else group_of(written))
    body_id = None if options.get("task_id") == before.id else options.get("task_id")
    outer = {name: options.get(name) for name in ("group_id", "group_index", "chord")}
    links = {"links": _listed(options.get("link")), "errors": _listed(options.get("link_error"))}
    body, node = freeze(_with_links(sig["kwargs"]["body"], **links), task_id=body_id, **outer)
    node.first().parent = before
    kept = {name: value for name, value in options.items() if name not in ("link", "link_error")}
    kwargs = {**sig["kwargs"], "header": header, "body": body}
    return {**sig, "kwargs": kwargs, "options": {**kept, "task_id": before.id}}, node


_FREEZERS: Final = {"task": _freeze_task, "chain": _freeze_chain, "group": _freeze_group, "chord": _freeze_chord}

# ---------------------------------------------------------------------------- what is sent


def unfold(
    sig: Sig, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **given: Any
) -> tuple[Plan, Node]:
    """What to send for a signature, with arguments before its own.

    `given` are options that go before its own, and what it is part of: `chain` (what follows, last first), `chord`
    (the body that its end counts for), `parent_id`, `root_id`. Raises OptionError for what cannot be sent.
    """
    plan = Plan([], [])
    links, errors = _listed(given.pop("link", None)), _listed(given.pop("link_error", None))
    sig = _with_links(sig, links=links, errors=errors)
    if kind_of(sig) == "group" and sig["options"].get("link"):
        raise OptionError("a group has no end that could call back; make it a chord: group(...) | callback")
    frozen, node = freeze(sig, task_id=given.pop("task_id", None))
    _send(frozen, tuple(args), kwargs or {}, given, plan)
    return plan, node


def _send(sig: Sig, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: dict[str, Any], plan: Plan) -> None:
    _SENDERS[kind_of(sig)](sig, args, kwargs, given, plan)


def _send_task(sig: Sig, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: dict[str, Any], plan: Plan) -> None:
    own = sig["options"]
    said = {**given, **{name: value for name, value in own.items() if value is not None}}
    for name in ("countdown", "eta", "queue", "priority", "expires"):
        if given.get(name) is not None:
            said[name] = given[name]
    embed = {
        "callbacks": _listed(own.get("link")) or None,
        "errbacks": _listed(own.get("link_error")) or None,
        "chain": given.get("chain") or own.get("chain") or None,
        "chord": given.get("chord") or own.get("chord"),
    }
    full = partial(sig, args, kwargs)
    options = {name: value for name, value in said.items() if name in _SENT}
    if any(embed.values()):
        options["embed"] = embed
    plan.calls.append(Call(name=sig["task"], args=full["args"], kwargs=full["kwargs"], options=options))


def _send_chain(sig: Sig, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: dict[str, Any], plan: Plan) -> None:
    *rest, first = tasks_of(sig)[::-1]
    later = [*(given.get("chain") or sig["options"].get("chain") or ()), *rest]
    inherited = {name: value for name, value in sig["options"].items() if name not in _OF_THE_WHOLE}
    given = {**inherited, **given, "chain": later}
    if rest:
        # Its end is the last one's: that has been told when it was frozen.
        given = {name: value for name, value in given.items() if name not in ("chord", "group_id", "group_index")}
    _send(first, args, kwargs, given, plan)


def _send_group(sig: Sig, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: dict[str, Any], plan: Plan) -> None:
    later = given.pop("chain", None) or sig["options"].get("chain")
    if later:
        chord, _ = freeze(chord_of(sig, chain_of(later[::-1]) if len(later) > 1 else later[0]))
        _send(chord, args, kwargs, given, plan)
        return
    inherited = {name: value for name, value in sig["options"].items() if name not in _OF_THE_WHOLE}
    given = {**inherited, "group_id": sig["options"]["task_id"], **given}
    for index, member in enumerate(tasks_of(sig)):
        _send(member, args, kwargs, {**given, "group_index": index}, plan)


def _send_chord(sig: Sig, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: dict[str, Any], plan: Plan) -> None:
    header, own = sig["kwargs"]["header"], sig["options"]
    body = _body_of(sig, given)
    members = tasks_of(header)
    inherited = {name: value for name, value in own.items() if name not in _OF_THE_WHOLE}
    passed = {name: value for name, value in {**inherited, **given}.items() if name not in _OF_THE_WHOLE}
    if not members:
        _send(body, ([],), {}, {name: value for name, value in passed.items() if name.endswith("_id")}, plan)
        return
    group_id = header["options"]["task_id"]
    plan.headers.append(Header(group_id=group_id, size=sum(map(count, members)), shape=_shape(header, group_id)))
    for index, member in enumerate(members):
        # A member that was frozen as part of something else does not say what it counts for.
        found, _ = freeze(member, chord=body, group_id=group_id, group_index=index)
        _send(found, args, kwargs, passed, plan)


_SENDERS: Final = {"task": _send_task, "chain": _send_chain, "group": _send_group, "chord": _send_chord}


def _body_of(sig: Sig, given: Mapping[str, Any]) -> Sig:
    """The body as the members of the header carry it: with what follows it, and what it counts for itself."""
    own, header_id = sig["options"], sig["kwargs"]["header"]["options"]["task_id"]
    outer = {name: given.get(name) for name in ("group_id", "group_index", "chord")}
    body, _ = freeze(sig["kwargs"]["body"], **outer)
    options = body["options"]
    later = [*(given.get("chain") or own.get("chain") or ()), *(options.get("chain") or ())]
    more = {"group_id": options.get("group_id") or header_id, "chain": later or None}
    said = {"root_id": given.get("root_id"), **options, **more}
    return {**body, "options": {name: value for name, value in said.items() if value is not None}}


def _shape(header: Sig, group_id: str) -> list[Any] | None:
    """The results' tree if a member's result is a list itself."""
    members = tasks_of(header)
    if all(kind_of(member) == "task" for member in members):
        return None
    nodes = [freeze(member)[1] for member in members]
    if all(node.members is None for node in nodes):
        return None
    top = Node(group_id, "celery.group", members=nodes)
    return top.as_tuple()
