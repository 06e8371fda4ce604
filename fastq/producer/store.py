"""Read results, and wait for them: look, subscribe, look again, then listen until the notice comes.

A waiting thread has a connection of its own to listen on. It goes back to the others afterwards, so that a program
which waits for one result after the other opens one connection for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from hiredis import HiredisError

from fastq import clock
from fastq.errors import BrokerError, ResultsUnavailable
from fastq.producer.outcome import Outcome, read_outcome
from fastq.producer.post import PAUSES_S, Lost, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastq.producer.cancel import Canceller
    from fastq.producer.line import Line, Lines

#: What stands before a task's id in the key, and in the channel of the same name.
RESULT_KEY = "celery-task-meta-"

#: Seconds after which a waiter looks at the key although nobody called: a notice can get lost with a connection.
LOOK_AGAIN_S = 5.0

#: Results that are read at once.
AT_ONCE = 500

#: Attempts to reach the result store again, one after the other, before a waiter gives up.
RETRIES = 3


def late(task_id: str, timeout_s: float | None) -> TimeoutError:
    return TimeoutError(
        f"task {task_id} has no result after {timeout_s or 0:g} s; is a worker running on its queue, and does the task "
        "store its result (ignore_result)?"
    )


class Deadline:
    """When a waiter has to stop, and how often it failed in a row."""

    def __init__(self, timeout_s: float | None) -> None:
        self._until = None if timeout_s is None else clock.monotonic() + timeout_s
        self._failures = 0

    def left_s(self) -> float:
        """Seconds to listen for: at most `LOOK_AGAIN_S`, not above zero when the time is over."""
        return LOOK_AGAIN_S if self._until is None else min(LOOK_AGAIN_S, self._until - clock.monotonic())

    def failed(self, error: Exception, *, where: str) -> float:
        """Return how long to pause before the next attempt. Raises ResultsUnavailable when there were enough."""
        self._failures += 1
        if self._failures > RETRIES or self.left_s() <= 0:
            unavailable(error, where=where)
        return PAUSES_S[self._failures]

    def succeeded(self) -> None:
        """Start counting anew."""
        self._failures = 0


def unavailable(error: Exception, *, where: str) -> NoReturn:
    reason = error.message if isinstance(error, BrokerError) else f"{where} closed the connection: {error}"
    raise ResultsUnavailable(reason) from error


def refuse(stored: bool) -> None:
    """Raises ResultsUnavailable where nothing is stored: nobody would ever be told."""
    if not stored:
        raise ResultsUnavailable(
            "the application stores no results, so there is none to look at; give it a result_backend: "
            "FastQ(..., backend='redis://localhost:6379/0')"
        )


def checked(reply: Any, *, where: str) -> Any:
    if isinstance(reply, HiredisError):
        raise ResultsUnavailable(f"{where} refuses: {reply}")
    return reply


class Store:
    """The results of one server, for programs without an event loop. Not `stored`: it has none, and says so."""

    def __init__(
        self, lines: Lines, listeners: Lines, *, prefix: str, canceller: Canceller, stored: bool = True
    ) -> None:
        self._lines = lines
        self._stored = stored
        self._canceller = canceller
        self._listeners = listeners
        self._prefix = prefix

    def key(self, task_id: str) -> str:
        """The key of a result, which is the name of the channel as well."""
        return f"{self._prefix}{RESULT_KEY}{task_id}"

    def read(self, task_id: str) -> Outcome:
        """Look at a result. Raises ResultsUnavailable."""
        return read_outcome(self._ask("GET", self.key(task_id)))

    def forget(self, task_id: str) -> None:
        """Delete a result. Raises ResultsUnavailable."""
        self._ask("DEL", self.key(task_id))

    def cancel(self, task_ids: Sequence[str], *, terminate: bool) -> None:
        """Cancel tasks, on their broker. Raises BrokerError."""
        self._canceller.cancel(task_ids, terminate=terminate)

    def read_many(self, task_ids: Sequence[str]) -> list[Outcome]:
        """Look at many results, so many at a time that no answer is too long. Raises ResultsUnavailable."""
        found: list[Outcome] = []
        for at in range(0, len(task_ids), AT_ONCE):
            found += map(read_outcome, self._ask("MGET", *map(self.key, task_ids[at : at + AT_ONCE])))
        return found

    def run(self, commands: bytes, count: int) -> list[Any]:
        """Have commands carried out that may be carried out twice, and return their replies.

        Raises ResultsUnavailable, also for an error among the replies.
        """
        try:
            replies = self._lines.ask(commands, count)
        except (BrokerError, Lost) as error:
            unavailable(error, where=self._lines.where)
        return [checked(reply, where=self._lines.where) for reply in replies]

    def _ask(self, *command: str) -> Any:
        refuse(self._stored)
        return self.run(pack(*command), 1)[0]

    def wait(self, task_id: str, timeout_s: float | None) -> Outcome:
        """Wait for a final outcome. Raises TimeoutError, or ResultsUnavailable when the store stays away."""
        deadline = Deadline(timeout_s)
        outcome = self.read(task_id)
        while not outcome.final:
            try:
                outcome = self._listen(task_id, deadline)
            except (BrokerError, Lost) as error:
                clock.sleep(deadline.failed(error, where=self._listeners.where))
                continue
            if not outcome.final and deadline.left_s() <= 0:
                raise late(task_id, timeout_s)
        return outcome

    def _listen(self, task_id: str, deadline: Deadline) -> Outcome:
        """Listen on a line of one's own until the result is there or the time is over."""
        line, key = self._listeners.take(), self.key(task_id)
        try:
            checked(line.ask(pack("SUBSCRIBE", key), 1)[0], where=self._listeners.where)
            outcome = self.read(task_id)
            deadline.succeeded()
            while not outcome.final and (left_s := deadline.left_s()) > 0:
                line.listen(left_s)
                outcome = self.read(task_id)
            self._leave(line, key)
        except BaseException:
            self._listeners.drop(line)
            raise
        self._listeners.give(line)
        return outcome

    def _leave(self, line: Line, key: str) -> None:
        """Stop listening, and read what was still under way, so that the next user of the line finds it silent."""
        replies = line.ask(pack("UNSUBSCRIBE", key), 1)
        while replies[-1][0] != b"unsubscribe":
            replies = line.ask(b"", 1)

    def close(self) -> None:
        """Let the connections go."""
        self._lines.close()
        self._listeners.close()
