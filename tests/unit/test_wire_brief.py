"""`argsrepr` and `kwargsrepr` are what Celery would have written, at every limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastq.wire.brief import LIMIT_CHARS, _Writer, brief

saferepr = pytest.importorskip("celery.utils.saferepr").saferepr

_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.dates() | st.uuids()
    | st.text(max_size=30) | st.binary(max_size=20) | st.text(min_size=200, max_size=1500)
)  # fmt: skip
_HASHABLE = st.integers() | st.text(max_size=10) | st.tuples(st.integers(), st.text())
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=12)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(_HASHABLE, inner, max_size=6)
        | st.sets(_HASHABLE, max_size=4)
        | st.frozensets(_HASHABLE, max_size=3)
    ),
    max_leaves=60,
)

_COMMON = [
    (),
    {},
    [],
    (7,),
    (True,),
    ("it's",),
    [1, 2],
    ("a\\b",),
    ("é\n",),
    {"a": None, "b": 1.5},
    {1: "x"},
    ("x" * 999,),
]


@settings(max_examples=300)
@given(_VALUES)
def test_any_value_reads_as_in_celery(value: object) -> None:
    assert brief(value) == saferepr(value, LIMIT_CHARS)


@settings(max_examples=150)
@given(_VALUES, st.integers(min_value=1, max_value=200))
def test_any_limit_cuts_where_celery_cuts(value: object, limit: int) -> None:
    assert _Writer(limit).write(value) == saferepr(value, limit)


@pytest.mark.parametrize("value", [*_COMMON, (b"\xff\x00",), {"k": {1}}])
def test_common_arguments_read_as_in_celery(value: object) -> None:
    assert brief(value) == saferepr(value, LIMIT_CHARS)


def test_a_list_that_holds_itself_ends() -> None:
    endless: list[object] = [1]
    endless.append(endless)
    assert brief(endless) == saferepr(endless, LIMIT_CHARS)


def test_a_broken_repr_is_described_instead_of_raised() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    assert "Unrepresentable" in brief((Broken(),))
