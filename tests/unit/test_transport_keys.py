"""Names of keys: each made in one place, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq.transport.redis.binding import Binding, topic_pattern
from fastq.transport.redis.keys import Claim, Keys

_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_workers = st.from_regex(r"[a-z]+@[a-z.]+-[0-9a-f]{8}", fullmatch=True)


def test_the_names_are_those_of_the_plan() -> None:
    keys = Keys()
    assert keys.claim("celery", "w@h-0", number=7) == "fastq:claim:{celery}:w@h-0:7"
    assert keys.claims("celery\x06\x163", "w@h-0") == "fastq:claims:{celery\x06\x163}:w@h-0"
    assert (keys.heartbeat("w"), keys.workers, keys.flush("w")) == ("fastq:worker:w", "fastq:workers", "fastq:flush:w")
    assert keys.dead("celery\x06\x163") == "fastq:dead:{celery\x06\x163}"
    assert keys.parse_dead("fastq:dead:{celery}") == "celery"
    assert keys.parse_dead("fastq:claims:{celery}:w") is None
    assert keys.crashes("celery", "an-id:0") == "fastq:crashes:{celery}:an-id:0"
    assert keys.running("w") == "fastq:running:w"
    assert (keys.unacked, keys.unacked_index, keys.unacked_mutex) == ("unacked", "unacked_index", "unacked_mutex")
    assert keys.binding("celery") == "_kombu.binding.celery"
    assert keys.binding_permanent("celery") == "_kombu.binding_permanent.celery"


def test_a_prefix_precedes_every_name() -> None:
    keys = Keys(prefix="shop:")
    names = [keys.claim("q", "w", number=1), keys.claims("q", "w"), keys.heartbeat("w"), keys.workers, keys.flush("w")]
    names += [keys.dead("q"), keys.crashes("q", "i:0"), keys.running("w")]
    names += [keys.unacked, keys.unacked_index, keys.unacked_mutex, keys.waiting("q")]
    names += [keys.binding("x"), keys.binding_permanent("x")]
    assert all(name.startswith("shop:") for name in names)
    # The braces hold the list's full name, or a cluster would keep the two apart.
    assert keys.claim("q", "w", number=1) == "shop:fastq:claim:{shop:q}:w:1"


@given(_names, _workers, st.integers(0, 2**53), st.sampled_from(["", "shop:", "{x}", "fastq:claim:{"]))
def test_a_claim_is_read_back_from_its_name(queue: str, worker: str, number: int, prefix: str) -> None:
    keys = Keys(prefix=prefix)
    name = keys.claim(queue, worker, number=number)
    assert keys.parse_claim(name) == keys.parse_claim(name.encode()) == Claim(queue, worker, number)
    assert keys.parse_claims(keys.claims(queue, worker)) == (queue, worker)


@pytest.mark.parametrize(
    "name", ["celery", "fastq:claim:{q}:w:", "fastq:claims:{q}:w", "xfastq:claim:{q}:w:1", b"\xff"]
)
def test_other_names_are_no_claims(name: str | bytes) -> None:
    assert Keys().parse_claim(name) is None


def test_options_are_celerys() -> None:
    keys = Keys.from_options(
        {"global_keyprefix": "p:", "sep": ":", "priority_steps": [0, 5], "unacked_key": "u", "visibility_timeout": 5}
    )
    assert keys.queue_keys("q") == ("q", "q:5")
    assert keys.queue_key("q", priority=7) == "q:5"
    assert keys.unacked == "p:u"
    assert Keys.from_options({}) == Keys()
    assert Keys().queue_keys("q") == ("q", "q\x06\x163", "q\x06\x166", "q\x06\x169")


@pytest.mark.parametrize(
    ("routing_key", "pattern"),
    [("a.#", r"^a\..*?$"), ("*.b", r"^[^\.]+\.b$"), ("a-b.c_d", r"^a\-b\.c\_d$"), ("", "^$"), ("\0", r"^\000$")],
)
def test_topic_patterns_are_kombus_to_the_character(routing_key: str, pattern: str) -> None:
    assert topic_pattern(routing_key) == pattern


def test_only_topics_have_patterns_in_their_members() -> None:
    assert Binding("celery", "direct", "celery", "q").member(separator="|") == "celery||q"
    assert Binding("celery", "fanout", "", "q").member(separator="|") == "||q"
    assert Binding("celery", "topic", "a.*", "q").member(separator="|") == r"a.*|^a\.[^\.]+$|q"
