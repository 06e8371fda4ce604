"""Redis commands as bytes (RESP 2): the few that the engine sends by itself."""

from __future__ import annotations

from collections.abc import Iterable

MULTI = b"*1\r\n$5\r\nMULTI\r\n"
EXEC = b"*1\r\n$4\r\nEXEC\r\n"


def pack(*words: bytes | str | int) -> bytes:
    """One command. Text becomes UTF-8, numbers decimal."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def claim(queue: bytes, *, into: bytes, index: bytes, n: int, count: int, lengths_of: Iterable[bytes]) -> bytes:
    """A claim: `into` is noted as `n` in `index`, then up to `count` messages move there from `queue`; then the lengths
    of all queues. Its replies are what `_core.Reader.expect_claim` expects.

    Each LMOVE is atomic, so this is no transaction: queueing 256 commands for one costs the server more than they do.
    """
    move = pack("LMOVE", queue, into, "RIGHT", "LEFT")
    lengths = b"".join(pack("LLEN", key) for key in lengths_of)
    return pack("SADD", index, n) + move * count + lengths


def claim_blocking(queue: bytes, *, into: bytes, index: bytes, n: int, timeout_s: int) -> bytes:
    """Wait up to `timeout_s` for one message of `queue` to move to the list `into`. Two replies: SADD's, BLMOVE's."""
    return pack("SADD", index, n) + pack("BLMOVE", queue, into, "RIGHT", "LEFT", timeout_s)
