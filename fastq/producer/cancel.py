"""Cancel tasks: a record that workers read when they connect, and Celery's `revoke` for those that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiredis import HiredisError

from fastq.errors import ConnectionCut
from fastq.producer.post import Lost, pack
from fastq.transport.redis.cancelled import record
from fastq.transport.redis.keys import Keys
from fastq.wire.control import request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fastq.errors import BrokerError
    from fastq.producer.async_line import AsyncLines
    from fastq.producer.line import Lines

#: Ids per request: each makes workers look through what they hold.
AT_ONCE = 5_000


class Mailbox:
    """What a cancellation writes, for one application: `exchange` is its `control_exchange`."""

    def __init__(self, options: Mapping[str, Any] | None, *, exchange: str, db: int) -> None:
        self._keys, self._exchange = Keys.from_options(options or {}), exchange
        self._channel = self._keys.channel(f"{exchange}.pidbox", db=db)

    def requests(self, ids: Sequence[str], *, terminate: bool) -> Iterator[tuple[bytes, int]]:
        """The commands, and how many they are. First the record: who does not hear the rest reads it."""
        for at in range(0, len(ids), AT_ONCE):
            some = list(ids[at : at + AT_ONCE])
            arguments = {"task_id": some, "terminate": terminate, "signal": "SIGTERM"}
            told = request("revoke", arguments, mailbox=self._exchange)
            words = [*record(self._keys, some), ("PUBLISH", self._channel, told)]
            yield b"".join(pack(*map(_word, one)) for one in words), len(words)


class Canceller:
    """Cancels through the lines of a producer. Blocks."""

    def __init__(self, lines: Lines, mailbox: Mailbox) -> None:
        self._lines, self._mailbox = lines, mailbox

    def cancel(self, ids: Sequence[str], *, terminate: bool) -> None:
        """Cancel these tasks. Raises BrokerError."""
        for commands, count in self._mailbox.requests(ids, terminate=terminate):
            try:
                replies = self._lines.ask(commands, count)
            except Lost as error:
                raise _in_doubt(error, self._lines.where) from error
            _check(replies, self._lines.explain)


class AsyncCanceller:
    """The same for a program with an event loop."""

    def __init__(self, lines: AsyncLines, mailbox: Mailbox) -> None:
        self._lines, self._mailbox = lines, mailbox

    async def cancel(self, ids: Sequence[str], *, terminate: bool) -> None:
        """Cancel these tasks. Raises BrokerError."""
        for commands, count in self._mailbox.requests(ids, terminate=terminate):
            try:
                replies = await self._lines.ask(commands, count)
            except Lost as error:
                raise _in_doubt(error, self._lines.where) from error
            _check(replies, self._lines.explain)


def _word(word: str | bytes | float) -> str | bytes:
    return repr(word) if isinstance(word, (int, float)) else word


def _in_doubt(error: Lost, where: str) -> ConnectionCut:
    return ConnectionCut(f"{where} closed the connection ({error}): tasks may not be cancelled; do it again")


def _check(replies: Sequence[Any], explain: Callable[[str], BrokerError]) -> None:
    for reply in replies:
        if isinstance(reply, HiredisError):
            raise explain(str(reply))
