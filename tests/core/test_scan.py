"""The scan's law: whatever it does not decline, the plain reader reads, calls plain, and reads the same from it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from fastq import _core
from fastq.wire.envelope import read_header
from tests.core.ledger_lab import FAST
from tests.core.task_ring import envelope

GOLDEN = Path(__file__).parent.parent / "celery" / "golden"


def recorded() -> list[bytes]:
    """Every envelope that a recorded producer left on a list."""
    found = []
    for path in sorted(GOLDEN.glob("msg-*.json")):
        for held in json.loads(path.read_text()).get("keys", {}).values():
            found += [entry.encode() for entry in held["value"]] if held["type"] == "list" else []
    return found


def is_usual(raw: bytes) -> bool:
    header = read_header(raw)
    return header.plain and header.shadow is None


RECORDED = recorded()
PLAIN = [raw for raw in RECORDED if is_usual(raw)]
USUAL = envelope("t.add", (1, 2))


def check(raw: bytes) -> bool:
    """Assert the law for these bytes; True if the scan took them."""
    found = _core.scan(raw)
    if found is None:
        return False
    header = read_header(raw)
    assert header.plain
    assert header.shadow is None
    assert (header.task, header.id) == found[:2]
    assert json.loads(raw)["body"].encode() == found[2]
    return True


# ---------------------------------------------------------------------------- JSON texts, good and bad

NUMBERS = (
    b"0 -0 1 -1 12.5 1e5 1E+5 1e-5 0.0 9007199254740993 1e999 -1e999 01 - -a 1. .5 1e 1e+ +1 0x1 1_0 --1 "
    b"NaN Infinity -Infinity"
).split()
WORDS = [
    b"null",
    b"true",
    b"false",
    b"nul",
    b"True",
    b"nulll",
    b"[null,null]",
    b"[null, null]",
    b"[]",
    b"{}",
    b"[1,]",
    b"",
]
ESCAPES = (b"\\n", b'\\"', b"\\\\", b"\\/", b"\\u0041", b"\\ud800", b"\\udc00", b"\\u12", b"\\x", b"\\")
ODD_BYTES = (b'"', b"\n", b"\x00", b"\x1f", b"\x7f", "é".encode(), "\U0001f600".encode(), b"\xff", b"\xc3")
PIECES = [b"a", b"W", b"/", b" " * 9, b"__type__", *ESCAPES, *ODD_BYTES]
TEMPTING = [
    *b'"base64" "utf-8" "UTF-8" "application/json" "application/x-yaml" "W10=" "e30=" "" "\\u0057" null 0 5'.split(),
    *b'[null,null] [1,null] "2020-01-01T00:00:00" true'.split(),
    b"[null, null]",
]


class Maker:
    """Makes JSON texts out of chance: most of them right, some of them not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        #: Half of the texts have white space where kombu has it, the others anywhere.
        self.as_kombu = self.rarely(0.5)

    def rarely(self, share: float) -> bool:
        return self.random.random() < share

    def white(self, usual: bytes = b"") -> bytes:
        if self.as_kombu and not self.rarely(0.01):
            return usual
        return b"".join(self.random.choices([b" ", b"\n", b"\t", b"\r"], k=self.random.randrange(3)))

    def good_string(self) -> bytes:
        text = "".join(chr(self.random.randrange(32, 127)) for _ in range(self.random.randrange(40)))
        return json.dumps(text).encode()

    def string(self) -> bytes:
        pieces = [*self.random.choices(PIECES, k=self.random.randrange(4)), b"x" * self.random.randrange(20)]
        self.random.shuffle(pieces)
        return b'"' + b"".join(pieces) + b'"'

    def nested(self) -> bytes:
        depth = self.random.randrange(40)
        opening, closing = self.random.choice([(b"[", b"]"), (b'{"a":', b"}")])
        return opening * depth + b"null" + closing * depth

    def value(self, depth: int = 0) -> bytes:
        makers: list[Callable[[], bytes]] = [
            lambda: self.random.choice(NUMBERS),
            lambda: self.random.choice(WORDS),
            lambda: self.random.choice(TEMPTING),
            lambda: b"1" * self.random.choice([9, 299, 300, 301, 4300, 4301]),
            self.good_string,
            self.good_string,
            self.string,
            self.nested,
        ]
        if depth < 3:
            makers += [lambda: self.array(depth), lambda: self.object(depth)] * 2
        return self.random.choice(makers)()

    def array(self, depth: int) -> bytes:
        return self.join(b"[", [self.value(depth + 1) for _ in range(self.random.randrange(4))], b"]")

    def object(self, depth: int) -> bytes:
        return self.join(b"{", [self.member(depth) for _ in range(self.random.randrange(4))], b"}")

    def member(self, depth: int = 0) -> bytes:
        key = self.random.choice([self.good_string(), self.good_string(), self.string(), b'"__type__"'])
        return key + self.white() + b":" + self.white(b" ") + self.value(depth + 1)

    def join(self, opening: bytes, items: list[bytes], closing: bytes) -> bytes:
        comma = self.white() + b"," + self.white(b" ")
        return opening + self.white() + comma.join(items) + self.white() + closing


# ---------------------------------------------------------------------------- envelopes built from parts

PARTS = {
    "envelope": ["body", "content-encoding", "content-type", "headers", "properties", "other"],
    "headers": [
        *["lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id"],
        *["parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting"],
        *["stamped_headers", "stamps"],
    ],
    "properties": [
        *["correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority"],
        *["body_encoding", "delivery_tag"],
    ],
    "delivery_info": ["exchange", "routing_key", "redelivered"],
}
USUAL_VALUES = {
    "body": b'"W1tdLCB7fSwge31d"',
    "content-encoding": b'"utf-8"',
    "content-type": b'"application/json"',
    "task": b'"t.add"',
    "id": b'"one"',
    "eta": b"null",
    "expires": b"null",
    "shadow": b"null",
    "timelimit": b"[null, null]",
    "lang": b'"py"',
    "group": b"null",
    "group_index": b"null",
    "ignore_result": b"false",
    "stamped_headers": b"null",
    "stamps": b"{}",
    "delivery_mode": b"2",
    "delivery_tag": b'"tag"',
    "body_encoding": b'"base64"',
    "exchange": b'""',
    "routing_key": b'"celery"',
}


def build(make: Maker, kind: str) -> bytes:
    """An object of this kind: mostly as it should be, with members changed, doubled, left out, and in any order."""
    listed = []
    for name in PARTS[kind]:
        usual = build(make, name) if name in PARTS else USUAL_VALUES.get(name, b"0")
        listed += [b'"%b":%b%b' % (name.encode(), make.white(b" "), value) for value in _changed(make, usual)]
    if make.rarely(0.1):
        listed.append(make.member())
    if make.rarely(0.2):
        make.random.shuffle(listed)
    return make.join(b"{", listed, b"}")


def _changed(make: Maker, usual: bytes) -> list[bytes]:
    if not make.rarely(0.02):
        return [usual]
    other = make.random.choice([make.random.choice(TEMPTING), make.value()])
    return make.random.choice([[], [other], [other], [usual, usual], [usual, other], [other, usual]])


SEEDS = st.integers(0, 2**63)


@settings(max_examples=6000)
@given(SEEDS)
def test_envelopes_built_from_parts(seed: int) -> None:
    event("taken" if check(build(Maker(seed), "envelope")) else "declined")


@settings(max_examples=3000)
@given(SEEDS, st.sampled_from([*PARTS["headers"], "compression", "other"]))
def test_any_value_in_any_header(seed: int, name: str) -> None:
    member = b'"%b": %b' % (name.encode(), Maker(seed).value())
    event("taken" if check(USUAL.replace(b'"headers": {', b'"headers": {' + member + b", ", 1)) else "declined")
    without = json.loads(USUAL)
    without["headers"].pop(name, None)
    check(json.dumps(without).encode().replace(b'"headers": {', b'"headers": {' + member + b", ", 1))


@settings(max_examples=500)
@given(st.binary(max_size=60))
@example(b"")
@example(b"{}")
@example(b"[]")
@example(b"{")
@example(b'{"a')
def test_any_bytes(raw: bytes) -> None:
    check(raw)


# ---------------------------------------------------------------------------- recorded envelopes, damaged

Accident = Callable[[Maker, bytearray, int], None]


def _set(make: Maker, raw: bytearray, at: int) -> None:
    raw[at : at + 1] = make.random.choice(b'"\\{}[]:,0eW \n\x00\x1f\x7f\x80\xff').to_bytes(1, "little")


def _flip(make: Maker, raw: bytearray, at: int) -> None:
    raw[at] ^= 1 << make.random.randrange(8)


def _drop(make: Maker, raw: bytearray, at: int) -> None:
    del raw[at : at + make.random.randrange(1, 9)]


def _insert(make: Maker, raw: bytearray, at: int) -> None:
    raw[at:at] = make.random.choice([make.random.choice(PIECES), make.white(), make.value(), b'"id": "two", '])


def _cut(make: Maker, raw: bytearray, at: int) -> None:
    del raw[at:]


def _swap(make: Maker, raw: bytearray, at: int) -> None:
    other = make.random.randrange(len(raw))
    raw[at], raw[other] = raw[other], raw[at]


def _copy(make: Maker, raw: bytearray, at: int) -> None:
    raw[at:at] = raw[at : at + make.random.randrange(1, 30)]


ACCIDENTS: list[Accident] = [_set, _flip, _flip, _drop, _insert, _insert, _cut, _swap, _copy]


@settings(max_examples=6000)
@given(SEEDS, st.sampled_from([*PLAIN, USUAL]), st.integers(1, 4))
def test_damaged_recordings(seed: int, raw: bytes, accidents: int) -> None:
    make, damaged = Maker(seed), bytearray(raw)
    for _ in range(accidents):
        if damaged:
            make.random.choice(ACCIDENTS)(make, damaged, make.random.randrange(len(damaged)))
    event("taken" if check(bytes(damaged)) else "declined")


def test_every_single_byte_changed() -> None:
    """Each byte of a plain envelope replaced by each of the bytes that mean something."""
    for at in range(len(USUAL)):
        for byte in b'"\\{}[]:,0-.enWu \n\x00\x1f\x7f\x80':
            check(USUAL[:at] + bytes([byte]) + USUAL[at + 1 :])


def test_every_beginning_and_end() -> None:
    for at in range(len(USUAL)):
        assert not check(USUAL[:at])
        check(USUAL[at:])


def stops() -> Iterator[tuple[int, bytes]]:
    for size in range(70):
        for stop in (*ESCAPES, *ODD_BYTES):
            yield size, stop


def test_a_stop_at_every_place_in_a_word() -> None:
    """Strings are looked at many bytes at a time: what ends one is found wherever it is."""
    for size, stop in stops():
        before, behind = b"a" * size, b"b" * (size % 37)
        check(_with_header(before + stop + behind))
        assert check(_with_header(before + b"c" + behind)) is FAST


def _with_header(text: bytes) -> bytes:
    return USUAL.replace(b'"headers": {', b'"headers": {"other": "' + text + b'", ', 1)


def test_nothing_is_read_behind_the_end() -> None:
    """An envelope that ends anywhere in a string, at the very end of its memory: a sanitizer build would notice."""
    for size in range(40):
        check(b'{"' + b"a" * size)
        check(b'{"a": "' + b"b" * size)
        check(b'{"a": "' + b"b" * size + b"\\")


# ---------------------------------------------------------------------------- what it takes, and what not


@pytest.mark.skipif(not FAST, reason="the compiled scan is switched off")
@pytest.mark.parametrize("raw", PLAIN)
def test_recorded_plain_envelopes_are_taken(raw: bytes) -> None:
    """It may decline anything, but declining what is usual would be slow."""
    assert check(raw)


@pytest.mark.parametrize("raw", [raw for raw in RECORDED if not is_usual(raw)])
def test_recorded_envelopes_that_are_not_plain_are_declined(raw: bytes) -> None:
    assert _core.scan(raw) is None


def test_switched_off_it_declines_everything() -> None:
    code = "import sys; from fastq import _core; print([_core.scan(r.encode()) for r in sys.argv[1:]])"
    said = subprocess.run(
        [sys.executable, "-c", code, *(raw.decode() for raw in (USUAL, PLAIN[0]))],
        env={**os.environ, "FASTQ_FAST": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "[None, None]"
