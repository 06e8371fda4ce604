"""Keep what is known of messages while they are being sent: written, answered, refused, in doubt. No input, no output.

A push is one LPUSH of messages to one key, which Redis carries out as a whole or not at all. What happens to it:

- An answer with a number: Redis has it. An answer with an error: Redis does not have it.
- No connection: nothing was written, Redis does not have it.
- A connection lost before the answer: nobody knows. Such a push is *in doubt*. The next connection is asked first
  whether its last message is among the newest of the list (LPOS); what is found there is not sent again. What is not
  found may still have been taken by a worker meanwhile: it is sent again, with the same ids and delivery tags, and can
  then be there twice, as with every client of Redis lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hiredis import HiredisError, pack_command

from fastq.errors import (
    BrokerError,
    BrokerReadOnly,
    BrokerRefused,
    BrokerUnavailable,
    ConnectionCut,
    NotConfirmed,
)

if TYPE_CHECKING:
    from fastq.producer.compose import Push
    from fastq.producer.options import Replicas

#: How many of the newest messages of a list are looked through for one in doubt. A few milliseconds for Redis.
LOOK_THROUGH = 10_000

#: Seconds before each further attempt; the first comes at once, as with Celery's publish policy.
PAUSES_S = (0.0, 0.2, 0.4, 0.8, 1.0)


def pack(*words: str | bytes) -> bytes:
    """Return one command as it is written. Numbers are given as text: hiredis (3.5) ends the process by SIGSEGV if a
    signal handler raises while it writes one."""
    command: bytes = pack_command(words)  # type: ignore[arg-type]  # hiredis says tuples of one
    return command


def wait(replicas: Replicas) -> bytes:
    """WAIT, for as many replicas and as long as that."""
    return pack("WAIT", str(replicas.count), str(int(replicas.timeout_s * 1000)))


class Lost(Exception):
    """A connection was lost; `replies` had come until then. Not `written`: the server cannot have seen anything."""

    def __init__(self, reason: object, *, replies: Sequence[Any] = (), written: bool = True) -> None:
        super().__init__(str(reason))
        self.replies = replies
        self.written = written


#: Tells a server's error as one of ours.
Explain = Callable[[str], BrokerError]


class Post:
    """The sending of some pushes, over as many connections as it takes. Whoever drives it does the input and output:
    ask for `request`, hand over what came (`answered`, `lost`, `unreachable`), until `over`; then `finish`.
    """

    # Where each of them begins; most never change, and there is a post for each send.
    error: BrokerError | None = None
    pause_s: float = 0.0
    doubtful: bool = False
    _failures: int = 0
    _confirmed: int | None = None

    def __init__(self, pushes: Sequence[Push], *, retries: int, confirm: Replicas | None, where: str) -> None:
        self.left: list[Push] = list(pushes)
        self.sent: list[Push] = []
        self.refused: list[Push] = []
        self._retries = retries
        self._confirm = confirm
        self._where = where

    @property
    def over(self) -> bool:
        """Tell whether nothing is left to be tried."""
        return not self.left or self._failures > self._retries

    @property
    def count(self) -> int:
        """Messages that Redis does not have for certain."""
        return sum(len(push.messages) for push in (*self.left, *self.refused))

    # What to write next

    def request(self) -> tuple[bytes, int]:
        """Return the bytes to write and how many replies they get."""
        if self._is_simple:
            push = self.left[0]
            return pack("LPUSH", push.key, *push.messages), 1
        if self.doubtful:
            commands = [pack("LPOS", push.key, push.messages[-1], "MAXLEN", str(LOOK_THROUGH)) for push in self.left]
        else:
            commands = [pack("LPUSH", push.key, *push.messages) for push in self.left]
        if self._confirm is not None:
            commands.append(wait(self._confirm))
        return b"".join(commands), len(commands)

    @property
    def _is_simple(self) -> bool:
        """Tell whether it is one push, and about nothing else: nearly every post is."""
        return len(self.left) == 1 and not self.doubtful and self._confirm is None

    @property
    def patience_s(self) -> float:
        """Seconds that the last reply may take beyond what any reply may."""
        return 0.0 if self._confirm is None else self._confirm.timeout_s

    # What came of it

    def answered(self, replies: Sequence[Any], explain: Explain) -> bool:
        """Take the replies to all of `request`; false if another connection should be tried next."""
        if self._is_simple and type(replies[0]) is int:
            self.sent.append(self.left.pop())
            return True
        asked, confirmed = replies[: len(self.left)], replies[len(self.left) :]
        # On a connection that has written nothing, WAIT may have nothing to wait for (Redis 7): that confirms nothing.
        if confirmed and isinstance(confirmed[0], int) and not self.doubtful:
            self._confirmed = confirmed[0]
        if self.doubtful:
            self._searched(asked)
            return True
        self._settle(asked, explain)
        if self.left and self.error is not None:
            self.failed(self.error)
        return not self.left

    def lost(self, lost: Lost, explain: Explain) -> None:
        """The connection went away; some replies may have come before."""
        if not self.doubtful:
            replies = lost.replies[: len(self.left)]
            self._settle(replies, explain)
            self.doubtful = lost.written and bool(self.left)
        self.failed(BrokerUnavailable(f"{self._where} closed the connection or did not answer: {lost}"))

    def interrupted(self) -> None:
        """An exception of somebody else's (a signal handler's) came in between: nobody knows what was written."""
        self.doubtful = bool(self.left)

    def failed(self, error: BrokerError) -> None:
        """An attempt did not get through, or was told to go elsewhere."""
        self.error = error
        self.pause_s = PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
        # Who is not let in now will not be let in a second later.
        final = isinstance(error, BrokerRefused) and not isinstance(error, BrokerReadOnly)
        self._failures += 1 + (self._retries if final else 0)

    def again(self) -> None:
        """Start over with what Redis does not have, and with what it refused. What is in doubt stays in doubt."""
        self.left, self.refused = [*self.refused, *self.left], []
        self._failures = 0

    def _settle(self, replies: Sequence[Any], explain: Explain) -> None:
        """Sort the pushes that have a reply; the others stay left."""
        pushes, self.left = self.left[: len(replies)], self.left[len(replies) :]
        for push, reply in zip(pushes, replies, strict=True):
            if not isinstance(reply, HiredisError):
                self.sent.append(push)
            else:
                self._refuse(push, explain(str(reply)))

    def _refuse(self, push: Push, error: BrokerError) -> None:
        # A replica was the primary a moment ago: the next connection may lead to the new one. The others are final.
        elsewhere = isinstance(error, (BrokerReadOnly, BrokerUnavailable))
        if elsewhere and self._failures < self._retries:
            self.left.append(push)
        else:
            self.refused.append(push)
        self.error = error

    def _searched(self, replies: Sequence[Any]) -> None:
        # An error here (an old server without LPOS, a user who may not) finds nothing.
        found = [isinstance(reply, int) for reply in replies]
        self.sent += [push for push, there in zip(self.left, found, strict=True) if there]
        self.left = [push for push, there in zip(self.left, found, strict=True) if not there]
        self.doubtful = False

    # The end

    def finish(self) -> None:
        """Return if Redis has it all, confirmed if that was asked for. Raises a BrokerError that knows the ids."""
        if self.left or self.refused:
            raise self.failure()
        wanted = self._confirm
        if wanted is not None and (self._confirmed or 0) < wanted.count:
            raise NotConfirmed(
                f"{self._confirmed or 0} of {wanted.count} replicas have confirmed within {wanted.timeout_s:g} s; "
                f"{self._where} has the messages, do not send them again",
                replicas=self._confirmed or 0,
                sent_ids=_ids(self.sent),
            )

    def failure(self) -> BrokerError:
        """Return the error of what could not be sent, or not for certain."""
        error = self.error or BrokerUnavailable(f"{self._where} was not tried")
        unknown = _ids(self.left) if self.doubtful else ()
        unsent = _ids(self.refused) + (() if self.doubtful else _ids(self.left))
        kind = ConnectionCut if unknown else type(error)
        return kind(
            f"{error.message}; {_known(len(_ids(self.sent)), len(unsent), len(unknown))}",
            sent_ids=_ids(self.sent),
            unsent_ids=unsent,
            unknown_ids=unknown,
        )


def _ids(pushes: Sequence[Push]) -> tuple[str, ...]:
    return tuple(task_id for push in pushes for task_id in push.ids)


def _known(sent: int, unsent: int, unknown: int) -> str:
    parts = [f"{unsent} not sent"] if unsent else []
    parts += [f"{unknown} written without an answer: they may have been sent"] if unknown else []
    parts += [f"{sent} sent"] if sent else []
    return ", ".join(parts) or "nothing was sent"
