"""What follows a task, in its child: callbacks, the rest of a chain, the parts of a chord, error callbacks.

The order, and what is left if the process is killed between two steps (the message of a task that acknowledges late is
delivered again, and everything below happens again, with the same ids):

1. Callbacks and the next task of the chain are sent. Killed here: they are sent again; never missing, perhaps twice.
2. Together, on the result store: the result is stored, and the part is counted. Killed here: a part counts once.
3. Who completed the chord holds the claim, reads the parts and sends the body. Killed here: the part comes again, finds
   the claim of a dead process, waits until it expires (seconds), and sends the body. If broker and result store are one
   database, body and end of the chord are one step: the body is sent once. Else it is sent, as Celery does, and then
   the chord ended: killed between the two, the body is sent twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastq import clock
from fastq.app.annotations import signature_of
from fastq.app.dispatch import composed, key_prefix, send, set_up, tell
from fastq.app.running.results import error_fields
from fastq.app.unfold import Plan, Sig, group_of, kind_of, tasks_of, unfold
from fastq.errors import BrokerError, ChordError, ResultsUnavailable
from fastq.results import chord
from fastq.wire.kombu_json import loads

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.running.context import Request
    from fastq.app.running.results import Results

logger: logging.Logger = logging.getLogger("fastq.task")

#: Seconds between looks at a claim that a dead process may hold, and how long it is looked at: longer than it can last.
LOOK_S, PATIENCE_S = 0.25, chord.CLAIM_S + chord.SEND_S + 3.0

#: Seconds before each further attempt to reach the result store.
PAUSES_S = (0.1, 0.5, 1.0, 2.0, 5.0)

#: (how many, their RESP) commands.
Stored = tuple[int, bytes]


class Follow:
    """What follows the tasks of one child. Blocks while it talks to broker and result store."""

    def __init__(self, app: FastQ, results: Results) -> None:
        self.app: FastQ = app
        self.results: Results = results

    # ------------------------------------------------------------------------ after a success

    def proceed(self, request: Request, value: Any) -> None:
        """Send callbacks and the next task of the chain, all at once. Raises as `Producer.send`."""
        plan = Plan([], [])
        for sig, later in _following(request.embed):
            more, node = unfold(sig, (value,), None, **lineage(request), chain=later)
            plan.calls.extend(more.calls)
            plan.headers.extend(more.headers)
            request.add_child(node)
        if plan.calls:
            send(self.app, plan)

    # ------------------------------------------------------------------------ after a failure

    def fail(self, request: Request, error: BaseException, *, traceback: str | None, stores: bool) -> Stored:
        """Call what is to be called, and return what stores the failure for the rest of the chain."""
        embed, fields = request.embed, error_fields(error)
        stored = self._fail_all(embed.get("chain") or (), fields, traceback=traceback, stores=stores, request=request)
        self._call_back(embed.get("errbacks") or (), request, error, traceback=traceback)
        return stored

    def revoke(self, request: Request, fields: Any, *, stores: bool) -> Stored:
        """What stores REVOKED for the rest of the chain of a task that was not run, or not to its end."""
        later = request.embed.get("chain") or ()
        return self._fail_all(later, fields, traceback=None, stores=stores, request=request, state="REVOKED")

    def _fail_all(
        self, sigs: Iterable[Sig], fields: Any, *, traceback: str | None, stores: bool, request: Request,
        state: str = "FAILURE",
    ) -> Stored:  # fmt: skip
        """What stores a failure for tasks that will not run; their parts of chords are counted here."""
        count, data = 0, b""
        for sig in _tasks_in(sigs):
            options = sig["options"]
            task_id = options.get("task_id")
            if not task_id:
                continue
            if stores:
                one = self.results.foreign(
                    task_id, fields, traceback=traceback, group_id=options.get("group_id"), state=state
                )
                count, data = count + one[0], data + one[1]
            if options.get("chord"):
                self._count(options["chord"], task_id, state, fields, place=options.get("group_index"),
                            group_id=options.get("group_id"), stored=(0, b""), request=request)  # fmt: skip
        return count, data

    def _call_back(
        self, errbacks: Iterable[Sig], request: Request, error: BaseException, *, traceback: str | None, of: str = ""
    ) -> None:
        """Error callbacks: here, with (request, error, traceback), where we have such a function; else as tasks."""
        failed_id, sent = of or request.id, []
        for sig in errbacks:
            task = self.app.tasks.get(sig["task"])
            if task is None or not _takes_error(task):
                sent.append(sig)
                continue
            try:
                task.function(request, error, traceback, *sig["args"], **sig["kwargs"])
            except Exception:
                logger.exception("Task %s: its error callback %s failed", failed_id, task.name)
        if not sent:
            return
        try:
            plan, _ = unfold(group_of(sent), (failed_id,), parent_id=failed_id, root_id=request.root_id)
            send(self.app, plan)
        except Exception:
            logger.exception("Task %s: its error callbacks cannot be sent", failed_id)

    # ------------------------------------------------------------------------ chords

    def count(self, request: Request, state: str, value: Any, stored: Stored) -> None:
        """Store the end of a task of a header, and count it. Raises ResultsUnavailable."""
        place = request.headers.get("group_index")
        body = request.embed["chord"]
        self._count(body, request.id, state, value, place=place, group_id=request.group, stored=stored, request=request)

    def _count(
        self, body: Sig, task_id: str, state: str, value: Any, *, place: int | None, group_id: str | None,
        stored: Stored, request: Request,
    ) -> None:  # fmt: skip
        if not group_id:
            self._run(stored[1], stored[0])
            return
        keys, token = chord.Keys(key_prefix(self.app), group_id), clock.random_hex(32)
        part = chord.part(task_id, state, value)
        command = keys.count(task_id, part, place=place, expires_s=self.results.expires_s or 0, token=token)
        counted = chord.Counted(*self._run(stored[1] + command, stored[0] + 1)[-1])
        until = clock.monotonic() + PATIENCE_S
        while counted.waits and clock.monotonic() < until:
            clock.sleep(LOOK_S)
            counted = chord.Counted(*self._run(command, 1)[0])
        if counted.is_ours:
            self._complete(keys, token, body, request=request)

    def _complete(self, keys: chord.Keys, token: str, body: Sig, *, request: Request) -> None:
        """All parts are there, and the claim is ours: send the body, or fail it."""
        count, commands = keys.read()
        shape, parts = self._run(commands, count)
        ended = [loads(text)[1:] for text in parts]
        failed = next((part for part in ended if part[1] in ("FAILURE", "REVOKED")), None)
        if failed is not None:
            error = ChordError(f"Dependency {failed[0]} raised {_shown(failed[2])}")
            logger.error("Chord %r raised: %s", keys.group.decode(), error)
            self._fail_body(keys, body, error, request=request)
            return
        values = [part[2] for part in ended]
        if shape is not None:
            values = _shaped(shape, {part[0]: part[2] for part in ended})
        plan, node = unfold(body, (values,), None, **lineage(request))
        request.add_child(node)
        try:
            self._send_body(keys, token, plan)
        except BrokerError as error:
            logger.exception("Chord callback for %r raised: %r", keys.group.decode(), error)
            self._fail_body(keys, body, ChordError(f"Callback error: {error!r}"), request=request)

    def _send_body(self, keys: chord.Keys, token: str, plan: Plan) -> None:
        app = self.app
        if app.producer.stores_results_there:
            set_up(app, plan.headers)
            sent = list(composed(app, plan.calls))
            messages = [(push.key.encode(), _bytes(text)) for push, _ in sent for text in push.messages]
            (kept,) = self._run(keys.finish(token, messages), 1)
            if kept:
                tell(app, sent)
        else:
            (kept,) = self._run(keys.extend(token), 1)
            if kept:
                send(app, plan)
                self._run(keys.finish(token), 1)
        if not kept:
            logger.warning("Chord callback %s not published: another worker has taken it over", keys.group.decode())

    def _fail_body(self, keys: chord.Keys, body: Sig, error: ChordError, *, request: Request) -> None:
        """Fail what the chord's end would have started."""
        fields = {"exc_type": "ChordError", "exc_message": [str(error)], "exc_module": "celery.exceptions"}
        for sig in _ends(body):
            task_id = sig["options"].get("task_id") or request.id
            self._call_back(sig["options"].get("link_error") or (), request, error, traceback=None, of=task_id)
        later = body["options"].get("chain") or ()
        count, data = self._fail_all([body, *later], fields, traceback=None, stores=True, request=request)
        self._run(data + keys.fail(), count + 1)

    def _run(self, commands: bytes, count: int) -> list[Any]:
        """Replies of the result store; tried again for some seconds. Raises ResultsUnavailable."""
        if not count:
            return []
        for pause_s in PAUSES_S:
            try:
                return self.app.producer.results.run(commands, count)
            except ResultsUnavailable as error:
                logger.warning("A chord waits for the result store: %s", error)
                clock.sleep(pause_s)
        return self.app.producer.results.run(commands, count)


def lineage(request: Request) -> dict[str, Any]:
    """What tasks that this one sends say of where they come from."""
    return {"parent_id": request.id, "root_id": request.root_id}


def _following(embed: Mapping[str, Any]) -> Iterator[tuple[Sig, list[Sig]]]:
    """(signature, what comes behind it): groups one by one, other callbacks as one group, then the chain."""
    callbacks = list(embed.get("callbacks") or ())
    groups = [one for one in callbacks if kind_of(one) == "group"]
    others = [one for one in callbacks if kind_of(one) != "group"]
    yield from ((one, []) for one in groups)
    if len(others) > 1:
        yield group_of(others), []
    elif others:
        yield others[0], []
    chain = embed.get("chain")
    if chain:
        yield chain[-1], list(chain[:-1])


def _tasks_in(sigs: Iterable[Sig]) -> Iterator[Sig]:
    """Every task in signatures, those of headers and bodies among them."""
    for sig in sigs:
        kind = kind_of(sig)
        if kind == "task":
            yield sig
            continue
        yield from _tasks_in(tasks_of(sig))
        if kind == "chord":
            yield from _tasks_in([sig["kwargs"]["body"]])


def _ends(sig: Sig) -> list[Sig]:
    """The signatures whose error callbacks hear that a body will not run."""
    kind = kind_of(sig)
    if kind == "group":
        return [end for task in tasks_of(sig) for end in _ends(task)]
    if kind == "chain":
        return _ends(tasks_of(sig)[-1])
    return _ends(sig["kwargs"]["body"]) if kind == "chord" else [sig]


def _takes_error(task: Any) -> bool:
    """Whether its function takes (request, error, traceback)."""
    if task.options.bind or task.is_coroutine:
        return False
    parameters = signature_of(task.function).parameters.values()
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 or any(one.kind is one.VAR_POSITIONAL for one in parameters)


def _shaped(text: bytes, results: Mapping[str, Any]) -> list[Any]:
    """The results in the shape that was stored: [[group, parent], members]."""

    def values(tree: Any) -> Any:
        (task_id, _), members = tree
        return results[task_id] if members is None else [values(member) for member in members]

    found: list[Any] = values(loads(text)["result"])
    return found


def _shown(fields: Any) -> str:
    """An error as Celery shows it."""
    if not isinstance(fields, dict) or "exc_type" not in fields:
        return repr(fields)
    arguments = fields.get("exc_message") or ()
    listed = arguments if isinstance(arguments, (list, tuple)) else [arguments]
    return f"{fields['exc_type']}({', '.join(map(repr, listed))})"


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
