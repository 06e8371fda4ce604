"""The engine's pure decisions: whose turn it is, how far ahead to work, which state follows."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq.errors import ImpossibleEvent, SettingError
from fastq.worker.lifecycle import STOPPING, TABLE, Event, State, after
from fastq.worker.pipeline.deal import DEEPEST, HORIZON_S, Pace, look_ahead, most_held
from fastq.worker.pipeline.order import FEW, Turns

KEYS = [("b", 0), ("b", 3), ("a", 0), ("a", 3)]


def served(turns: Turns, lengths: list[int], want: int) -> str:
    """Empty the queues, `want` messages at a time; the queues in the order in which they were served."""
    lengths, order = list(lengths), ""
    while shares := turns(lengths, want):
        for key, count in shares:
            assert 0 < count <= lengths[key]
            lengths[key] -= count
            order += KEYS[key][0] * count
    return order


# ---------------------------------------------------------------------------- order


@pytest.mark.parametrize(("strategy", "order"), [("priority", "bbbaaa"), ("sorted", "aaabbb")])
@pytest.mark.parametrize("want", [1, 2, 100])
def test_one_queue_is_emptied_before_the_next(strategy: str, order: str, want: int) -> None:
    assert served(Turns(KEYS, strategy=strategy), [3, 0, 3, 0], want) == order


@pytest.mark.parametrize("want", [1, 2, 3, FEW])
def test_queues_take_turns_one_by_one(want: int) -> None:
    assert served(Turns(KEYS), [3, 0, 3, 0], want) == "bababa"


def test_queues_share_a_large_claim() -> None:
    assert Turns(KEYS)([500, 0, 500, 0], 200) == [(0, 100), (2, 100)]


@pytest.mark.parametrize("strategy", ["priority", "sorted", "round_robin"])
def test_the_lower_step_comes_first_whatever_the_queue(strategy: str) -> None:
    turns = Turns(KEYS, strategy=strategy)
    assert turns([0, 9, 1, 9], 10) == [(2, 1)]
    assert {key for key, _ in turns([0, 9, 0, 9], 10)} <= {1, 3}
    assert turns([0, 0, 0, 0], 10) == []


def test_an_unknown_strategy_is_a_setting_s_error() -> None:
    with pytest.raises(
        SettingError, match=r"queue_order_strategy'\] is 'random'; it can be round_robin, sorted, priority"
    ):
        Turns(KEYS, strategy="random")


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.integers(1, 60))
def test_nobody_is_asked_for_more_than_there_is(lengths: list[int], want: int) -> None:
    assert len(served(Turns(KEYS), lengths, want)) == sum(lengths)


# ---------------------------------------------------------------------------- pace


def test_pace_is_a_moving_mean() -> None:
    pace = Pace()
    pace.measure(10, 10_000_000)
    assert pace.mean_s == pytest.approx(0.001)
    pace.measure(10, 10_000_000)
    assert pace.mean_s == pytest.approx(0.001), "nothing finished, nothing learnt"
    for n in range(2, 60):
        pace.measure(10 * n, 10_000_000 + 100_000_000 * (n - 1))
    assert pace.mean_s == pytest.approx(0.010, rel=0.01)
    pace.measure(5, 1)  # a child left, and its counters with it
    assert pace.mean_s == pytest.approx(0.010, rel=0.01)


def test_how_far_to_look_ahead() -> None:
    assert look_ahead(0.0) == 1, "nothing is known yet"
    assert look_ahead(1.0) == 0, "long tasks go to idle children only"
    assert look_ahead(HORIZON_S / 10) == 10
    assert look_ahead(HORIZON_S / 10, round_trip_s=HORIZON_S) == 30, "a distant broker needs more"
    assert look_ahead(1e-9) == DEEPEST


@pytest.mark.parametrize("children", [1, 4])
def test_long_tasks_are_held_as_celery_holds_them(children: int) -> None:
    assert most_held(0, children=children, free=children, multiplier=4) == 4 * children
    assert most_held(0, children=children, free=0, multiplier=1) == children
    assert most_held(0, children=children, free=children, multiplier=0) == DEEPEST * children


def test_short_tasks_are_held_for_a_moment_s_work() -> None:
    assert most_held(100, children=2, free=2, multiplier=4) == 400
    assert most_held(100, children=2, free=0, multiplier=4) == 8, "no child is free to start them"


# ---------------------------------------------------------------------------- lifecycle


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_is_in_the_table_or_refused(state: State, event: Event) -> None:
    if (state, event) in TABLE:
        assert after(state, event) is TABLE[state, event]
    else:
        with pytest.raises(ImpossibleEvent, match=f"{state.value} met the event {event.value}"):
            after(state, event)


def test_stopping_leads_to_the_end_and_never_back() -> None:
    order = [State.WARM, State.SOFT, State.COLD, State.STOPPED]
    for (state, _event), following in TABLE.items():
        if state in STOPPING:
            assert order.index(following) >= order.index(state)
    for state in State:
        if state not in (State.STOPPED, State.STARTING, State.RUNNING):
            assert TABLE[state, Event.DRAINED] is State.STOPPED
        if state is not State.STARTING:
            assert TABLE[state, Event.QUIT] in STOPPING, "an impatient operator is always heard"


def test_the_documentation_shows_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "internals" / "architecture.md"
    rows = []
    for state in State:
        following = [TABLE[state, event].value if (state, event) in TABLE else "" for event in Event]
        rows.append(f"| {' | '.join([state.value, *following])} |")
    head = f"| state | {' | '.join(event.value for event in Event)} |"
    assert "\n".join([head, "| --- " * (len(Event) + 1) + "|", *rows]) in page.read_text()
