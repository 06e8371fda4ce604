"""Send a task unless one with the same key waits or runs: lock and message are one step on the broker.

Whatever is asked twice, because a connection was lost before the answer came, changes nothing the second time: the lock
has the task's own id then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiredis import HiredisError

from fastq.producer.post import Post, pack, wait
from fastq.transport.redis.locks import SEND, Lock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastq.producer.compose import Push
    from fastq.producer.options import Replicas
    from fastq.producer.post import Explain


class OncePost(Post):
    """The sending of one message under a lock; `holder` is the id of the task that has the lock afterwards."""

    doubtful: bool

    def __init__(self, push: Push, lock: Lock, *, retries: int, confirm: Replicas | None, where: str) -> None:
        super().__init__([push], retries=retries, confirm=confirm, where=where)
        self._push, self._lock = push, lock
        self.holder: str = push.ids[0]
        #: Whether it was not sent, because of the lock.
        self.existed: bool = False
        self._asked_again: bool = False

    def request(self) -> tuple[bytes, int]:
        """As of every post; what is in doubt is asked again as it was."""
        push, lock = self._push, self._lock
        command = pack("EVAL", SEND, "2", lock.key, push.key, push.ids[0], str(lock.hold_ms), push.messages[0])
        if self._confirm is None:
            return command, 1
        return command + wait(self._confirm), 2

    def answered(self, replies: Sequence[Any], explain: Explain) -> bool:
        """As of every post."""
        in_doubt = self._asked_again = self.doubtful
        self.doubtful = False
        over = super().answered(replies, explain)
        if in_doubt:
            self._confirmed = None  # the script may have written nothing this time
        self.doubtful = in_doubt and bool(self.left)
        return over

    def _settle(self, replies: Sequence[Any], explain: Explain) -> None:
        if replies and not isinstance(replies[0], HiredisError) and (found := _text(replies[0])):
            # After a doubt our own id says that the first attempt got through.
            self.existed = found != self.holder or not self._asked_again
            self.holder = found
        super()._settle(replies, explain)


def _text(reply: Any) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
