"""Remote control: read what is published for workers, decide whether it is for this one, run it, and reply.

The rules are those of kombu's pidbox. Whatever is wrong with a message ends in the log or in the reply
`{"error": repr(exception)}`, never in the worker's end.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import Any, TypeAlias

import msgspec

from fastq.program import Question, Reply
from fastq.wire.envelope import JSON
from fastq.worker.cluster.commands.state import Elsewhere, Errand, Silence, State
from fastq.worker.cluster.replies import Address, Replies
from fastq.worker.poll import Errands
from fastq.worker.processes.desk import Desk

logger: logging.Logger = logging.getLogger(__name__)

Command: TypeAlias = Callable[..., Any]

#: What `pattern` is matched with; kombu's names.
MATCHERS: Mapping[str, Callable[[str, str], object]] = {
    "glob": fnmatch,
    "pcre": lambda node, pattern: re.match(pattern, node),
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, its outer shape checked."""

    method: str
    arguments: dict[str, Any] = {}
    destination: list[str] | None = None
    pattern: str | None = None
    matcher: str | None = None
    ticket: str | None = None
    reply_to: Address | None = None

    def is_for(self, node: str) -> bool:
        """Whether the node is meant. Raises LookupError for a matcher that nobody knows, re.error for no pattern."""
        if self.destination:
            return node in self.destination
        if self.pattern and self.matcher:
            if self.matcher not in MATCHERS:
                raise LookupError(f"no matcher is called {self.matcher!r}; there are {', '.join(MATCHERS)}")
            return bool(MATCHERS[self.matcher](node, self.pattern))
        return True


class Pidbox:
    """The mailbox of one worker."""

    def __init__(
        self,
        *,
        commands: Mapping[str, Command],
        state: State,
        replies: Replies,
        desk: Desk,
        errands: Errands,
    ) -> None:
        self._commands, self._state, self._replies = commands, state, replies
        self._desk, self._errands = desk, errands

    def heard(self, _channel: bytes, data: bytes) -> None:
        """Something was published for all workers. Never raises."""
        self._state.clock.forward()
        try:
            self._open(data)
        except (
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            re.error,
            RecursionError,
            msgspec.MsgspecError,
        ) as e:
            _ignore(data, e)

    def _open(self, data: bytes) -> None:
        envelope = json.loads(data)
        properties, headers = envelope["properties"], envelope.get("headers") or {}
        kind = envelope.get("content-type")
        clock = headers.get("clock") or 0
        if kind not in self._state.program.control.accept:
            raise ValueError(f"its content type {kind!r} is not accepted (accept_content)")
        if kind != JSON or "compression" in headers:
            question = Question(kind="decode", data=data)
            self._desk.ask(question, lambda reply: self._opened(data, reply, clock))
            return
        body = envelope["body"]
        if properties.get("body_encoding") == "base64":
            body = base64.b64decode(body)
        self._take(json.loads(body), clock)

    def _opened(self, data: bytes, reply: Reply, clock: int) -> None:
        try:
            if reply.failed:
                raise ValueError(reply.value.decode())
            self._take(json.loads(reply.value), clock)
        except (ValueError, TypeError, LookupError, re.error, msgspec.MsgspecError) as error:
            _ignore(data, error)

    def _take(self, body: object, clock: object) -> None:
        request = msgspec.convert(body, Request)
        self._replies.lamport.adjust(msgspec.convert(clock, int))
        if request.is_for(self._state.node):
            self._run(request)

    # Running

    def _run(self, request: Request) -> None:
        logger.debug("pidbox received method %s %r", request.method, request.arguments)
        try:
            answer = self._start(request)
        except Exception as error:
            # As kombu's pidbox: whatever a command raises is its answer.
            logger.error("pidbox command error: %r", error, exc_info=True)
            answer = {"error": repr(error)}
        if isinstance(answer, Silence):
            return
        if isinstance(answer, Elsewhere):
            question = Question(
                kind="command",
                name=answer.name,
                arguments=json.dumps(answer.arguments).encode(),
                facts=self._state.facts(),
            )
            self._desk.ask(question, lambda reply: self._reply(request, reply.value))
        elif isinstance(answer, Errand):
            work = answer.work
            self._errands.run(lambda: _json(work()), lambda found: self._found(request, found), name="fastq-inspect")
        else:
            self._reply(request, _json(answer))

    def _start(self, request: Request) -> Any:
        if request.method in self._state.program.control.commands:
            return Elsewhere(name=request.method, arguments=request.arguments)
        return self._commands[request.method](self._state, **request.arguments)

    def _found(self, request: Request, outcome: bytes | Exception) -> None:
        if isinstance(outcome, Exception):
            logger.error("pidbox command error: %r", outcome)
            outcome = _json({"error": repr(outcome)})
        self._reply(request, outcome)

    def _reply(self, request: Request, value: bytes) -> None:
        if request.reply_to is not None:
            self._replies.send(value, to=request.reply_to, ticket=request.ticket)


def _json(answer: object) -> bytes:
    if isinstance(answer, list):
        # Piece by piece: the loop has its turns while a thread writes a large one.
        return f"[{', '.join(json.dumps(one) for one in answer)}]".encode()
    return json.dumps(answer).encode()


def _ignore(data: bytes, error: Exception) -> None:
    logger.error("A remote control message was ignored: %r; %d bytes: %.500r", error, len(data), data[:500])
