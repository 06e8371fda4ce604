"""Replies of Redis: every kind, cut into pieces at every byte; and what is no reply at all."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastq import _core
from tests.core.ledger_lab import FAST
from tests.core.task_ring import envelope


class Status(bytes):
    """A simple string; what a test writes as bytes is a bulk string."""


def reply(value: Any) -> bytes:
    """A value as Redis writes it."""
    if isinstance(value, Status):
        return b"+%b\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, RuntimeError):
        return b"-%b\r\n" % str(value).encode()
    if isinstance(value, list):
        return b"*%d\r\n%b" % (len(value), b"".join(map(reply, value)))
    return b"$-1\r\n"


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, RuntimeError):
        return isinstance(found, RuntimeError) and str(found) == str(expected)
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected)


def errors_in(value: Any) -> list[bytes]:
    if isinstance(value, list):
        return [error for item in value for error in errors_in(item)]
    return [str(value).encode()] if isinstance(value, RuntimeError) else []


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.integers(-(10**17), 10**17),
        st.binary(max_size=40),
        st.sampled_from([Status(b"OK"), Status(b"QUEUED"), Status(b""), b"\r\n", b"$-1\r\n", b"*2\r\n"]),
        st.text("abc .:", min_size=1, max_size=20).map(RuntimeError),
    ),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)

EXAMPLES: list[Any] = [
    [],
    [[], [[]]],
    None,
    b"",
    b"x" * 70_000,
    0,
    -1,
    10**17,
    -(10**18),
    Status(b""),
    [b"a", None, 5, Status(b"OK"), RuntimeError("WRONGTYPE no list"), [b"", [1]]],
]


# ---------------------------------------------------------------------------- single replies


@pytest.mark.parametrize("value", EXAMPLES, ids=[repr(value)[:40] for value in EXAMPLES])
def test_a_reply_cut_at_every_byte(value: Any) -> None:
    data = reply(value)
    for cut in range(1, len(data)) if len(data) < 1000 else (1, 5, 6, 8, 9, 30_000, len(data) - 1):
        reader = _core.Reader()
        reader.feed(data[:cut])
        assert reader.value() == (False, None)
        assert reader.skip_replies(1) == 1
        reader.feed(data[cut:])
        whole, found = reader.value()
        assert whole
        assert same(found, value)
        assert reader.buffered == 0
        assert reader.take_errors() == []


@settings(max_examples=300)
@given(st.lists(VALUES, min_size=1, max_size=6), st.integers(1, 50))
def test_replies_in_pieces_of_any_size(values: list[Any], size: int) -> None:
    reader, found = _core.Reader(), []
    for piece in pieces(b"".join(map(reply, values)), size):
        reader.feed(piece)
        while (got := reader.value())[0]:
            found.append(got[1])
    assert same(found, values)


@settings(max_examples=300)
@given(st.lists(VALUES, min_size=1, max_size=6), st.integers(1, 50))
def test_skipped_replies_leave_their_errors_behind_once(values: list[Any], size: int) -> None:
    reader, left = _core.Reader(), len(values)
    for piece in pieces(b"".join(map(reply, values)) + b":7\r\n", size):
        reader.feed(piece)
        left = reader.skip_replies(left)
    assert left == 0
    assert reader.take_errors() == errors_in(values)
    assert reader.take_errors() == []
    assert reader.value() == (True, 7)


def test_a_null_array_is_nothing() -> None:
    reader = _core.Reader()
    reader.feed(b"*-1\r\n" * 3)
    assert reader.value() == (True, None)
    assert reader.skip_replies(2) == 0


def test_replies_are_used_as_they_come() -> None:
    reader = _core.Reader()
    reader.feed(b"+a\r\n:5\r\n$3\r\nx")
    assert reader.skip_replies(3) == 1
    assert reader.buffered == 5
    reader.feed(b"yz\r\n")
    assert reader.value() == (True, b"xyz")


NO_REPLIES = [
    *[b"hello\r\n", b"\r\n", b"\n", b"HTTP/1.1 400 Bad Request\r\n", b"%2\r\n", b"_\r\n", b"\x00", b"x", b" +OK\r\n"],
    *[b"+OK\n", b"$5\n", b":\r\n", b":-\r\n", b":1x\r\n", b":+1\r\n", b"$x\r\n", b"$\r\n", b"*a\r\n", b"*\r\n"],
    *[b":%d\r\n" % 10**19, b"$3\r\nabcde", b"$3\r\nabc\n\n", b"*1\r\nx", b"*2\r\n:1\r\n?", b"*1\r\n" * 40 + b":1\r\n"],
]


@pytest.mark.parametrize("data", NO_REPLIES)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    for skip in (True, False):
        reader = _core.Reader()
        reader.feed(data)
        with pytest.raises(ValueError, match="not RESP"):
            reader.skip_replies(1) if skip else reader.value()


@settings(max_examples=500)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.lists(st.sampled_from([b"*2\r\n", b"$3\r\n", b"abc", b":1\r\n", b"\r\n"])).map(b"".join),
    )
)
def test_any_bytes_are_replies_or_refused_or_not_whole(data: bytes) -> None:
    reader = _core.Reader()
    reader.feed(data)
    with contextlib.suppress(ValueError):
        while reader.value()[0]:
            pass


# ---------------------------------------------------------------------------- the buffer


def test_receiving_into_the_reader() -> None:
    reader = _core.Reader()
    for _ in range(100):
        space = reader.space(10)
        assert len(space) >= 10
        space[:10] = b"$4\r\nabcd\r\n"
        reader.fed(10)
        assert reader.value() == (True, b"abcd")
    with pytest.raises(ValueError, match="cannot have been received"):
        reader.fed(1 << 40)


def test_a_huge_reply_comes_and_goes() -> None:
    """The room for it is given back, whatever comes next."""
    huge = b"x" * (20 << 20)
    reader = _core.Reader()
    for _ in range(3):
        for piece in pieces(reply(huge), 1 << 20):
            reader.feed(piece)
        assert reader.value() == (True, huge)
        assert len(reader.space()) <= 2 << 20
    reader.feed(reply(huge))
    assert reader.value() == (True, huge)
    reader.feed(reply(huge))
    assert reader.value() == (True, huge)


# ---------------------------------------------------------------------------- claims

MESSAGES = [envelope("t.add", (n,), task_id=f"{n:08d}-0000") for n in range(5)] + [b"not a message", b""]


class Engine:
    """A ledger with one key, and a reader."""

    def __init__(self) -> None:
        memory = mmap.mmap(-1, _core.Segment.size_of(1, 1 << 16, 1 << 12))
        segment = _core.Segment.create(memory, slots=1, task_bytes=1 << 16, result_bytes=1 << 12, worker=b"w")
        self.ledger = _core.Ledger(segment, [b"t.add"], [False], [(0.0, 0.0)])
        self.ledger.add_key(b"celery", b"claim:", b"index")
        self.reader = _core.Reader()

    def expect(self, moves: int, counts: int) -> int:
        batch, _number = self.ledger.open_batch(0, moves)
        self.reader.expect_claim(batch, moves, counts)
        return batch

    def read(self, data: bytes, size: int) -> Any:
        """Feed in pieces; the claim's answer, and that nothing came before the last piece."""
        answer = None
        for piece in pieces(data, size):
            assert answer is None
            self.reader.feed(piece)
            answer = self.reader.read_claim(self.ledger)
        return answer


def claim(moved: list[Any], counts: list[Any], added: Any = 1) -> bytes:
    return b"".join(reply(part) for part in [added, *moved, *counts])


@pytest.mark.parametrize("size", [*range(1, 40), 1000, 100_000])
def test_a_claim_in_pieces(size: int) -> None:
    engine = Engine()
    batch = engine.expect(9, 2)
    assert engine.read(claim([*MESSAGES, None, None], [17, 0]), size) == [17, 0]
    assert engine.reader.buffered == 0
    assert engine.ledger.close_batch(batch) == engine.ledger.size == 7
    assert engine.ledger.pending == (5 if FAST else 0)
    assert engine.ledger.take_odd() == list(enumerate(MESSAGES))[engine.ledger.pending :]
    assert [engine.ledger.where(entry) for entry in range(7)] == [(0, 1, position) for position in range(7)]


def test_messages_are_taken_while_the_rest_is_on_its_way() -> None:
    engine = Engine()
    engine.expect(3, 1)
    data = claim(MESSAGES[:3], [0])
    cut = data.index(b"$", data.index(MESSAGES[0]))
    engine.reader.feed(data[:cut])
    assert engine.reader.read_claim(engine.ledger) is None
    assert engine.ledger.taken == 1
    engine.reader.feed(data[cut:])
    assert engine.reader.read_claim(engine.ledger) == [0]
    assert engine.ledger.taken == 3


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_claims_behind_each_other(size: int) -> None:
    engine = Engine()
    batches = []
    data = b"".join(claim(MESSAGES[n : n + 1], [n]) for n in range(5))
    answers: list[Any] = []
    batches.append(engine.expect(1, 1))
    for piece in pieces(data, size):
        engine.reader.feed(piece)
        while len(answers) < 5 and (answer := engine.reader.read_claim(engine.ledger)) is not None:
            answers.append(answer)
            engine.ledger.close_batch(batches[-1])
            if len(answers) < 5:
                batches.append(engine.expect(1, 1))
    assert answers == [[0], [1], [2], [3], [4]]
    assert engine.ledger.taken == 5


@pytest.mark.parametrize("size", [1, 1000])
def test_a_claim_that_was_refused(size: int) -> None:
    engine = Engine()
    batch = engine.expect(1, 1)
    refused = RuntimeError("OOM command not allowed")
    assert engine.read(claim([refused], [7], added=refused), size) == [7]
    assert engine.reader.take_errors() == [b"OOM command not allowed"] * 2
    assert engine.ledger.close_batch(batch) == 0
    assert engine.ledger.size == 0


@pytest.mark.parametrize("size", [1, 1000])
def test_a_key_of_another_type_is_an_empty_queue(size: int) -> None:
    """The commands that failed are told; the others count."""
    engine = Engine()
    engine.expect(2, 2)
    wrong = RuntimeError("WRONGTYPE Operation against a key")
    assert engine.read(claim([wrong, MESSAGES[0]], [wrong, 3], added=wrong), size) == [0, 3]
    assert engine.reader.take_errors() == [str(wrong).encode()] * 3
    assert engine.ledger.taken == 1


@pytest.mark.parametrize("data", [b"oops\r\n", b":1\r\n:5\r\n", b":1\r\n$2\r\nabcd\r\n", b":1\r\n$-1\r\n$1\r\nx\r\n"])
def test_a_claim_answered_by_something_else_is_refused(data: bytes) -> None:
    engine = Engine()
    engine.expect(1, 1)
    engine.reader.feed(data)
    with pytest.raises(ValueError, match=r"reply|answered|expected"):
        engine.reader.read_claim(engine.ledger)


def test_claims_are_announced_one_at_a_time() -> None:
    engine = Engine()
    with pytest.raises(ValueError, match="no claim"):
        engine.reader.read_claim(engine.ledger)
    engine.expect(1, 0)
    with pytest.raises(ValueError, match="has not been read"):
        engine.expect(1, 0)


@pytest.mark.parametrize(
    ("data", "moved"),
    [(reply(MESSAGES[0]), True), (b"$-1\r\n", False), (b"*-1\r\n", False), (b"-UNBLOCKED client unblocked\r\n", False)],
)
def test_a_message_waited_for(data: bytes, moved: bool) -> None:
    for cut in range(len(data)):
        engine = Engine()
        batch, _number = engine.ledger.open_batch(0, 1)
        engine.reader.feed(data[:cut])
        assert engine.reader.read_moved(engine.ledger, batch) is None
        engine.reader.feed(data[cut:])
        assert engine.reader.read_moved(engine.ledger, batch) is moved
        assert engine.ledger.close_batch(batch) == engine.ledger.size == int(moved)
        assert engine.reader.take_errors() == ([data[1:-2]] if data[:1] == b"-" else [])
