"""The policy of autoscaling, on a simulated machine: bursts, sawtooth, waiting and computing, leaks, a neighbour."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from fastq.worker.processes.autoscale import Bounds, Observation, Past, cpu_cap, decide, demanded, memory_cap
from tests.autoscale_lab import MIB, Machine, Simulation, Work, at_once, every, together
from tests.draw_scaling import TARGET, draw

WAITS = Work(wait_s=1.0, cpu_s=0.005)
COMPUTES = Work(cpu_s=0.5)

GIB = 1024 * MIB


def bounds(most: int = 40, least: int = 2, *, cpus: float = 4.0, keepalive_s: float = 30.0) -> Bounds:
    return Bounds(most=most, least=least, cpus=cpus, keepalive_s=keepalive_s)


def seen(**facts: float) -> Observation:
    given = {"now_s": 0.0, "children": 2, "total_bytes": 8 * GIB, "available_bytes": 6 * GIB, **facts}
    return Observation(**given)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------- loads


def test_a_burst_is_met_within_a_second() -> None:
    run = Simulation(at_once(5, WAITS, count=200), bounds=bounds()).run(60)
    assert run.at(4.9).children == 2
    assert run.at(6.0).children == 40
    assert run.at(15.0).queue == 0


def test_after_a_burst_children_leave_when_they_have_been_idle_for_a_while() -> None:
    run = Simulation(at_once(5, WAITS, count=200), bounds=bounds()).run(90)
    over = next(p.at_s for p in run.points if p.at_s > 6 and not p.busy)
    assert run.at(over + 25).children == 40, "they are kept for a while: the next burst may come"
    assert run.at(over + 70).children == 2


def test_tasks_that_wait_may_have_more_children_than_there_are_cores() -> None:
    run = Simulation(every(0.1, WAITS, count=3), bounds=bounds()).run(30)
    assert run.most_children() > 4 * 4
    assert run.at(29).wait_s < 1.0


def test_tasks_that_compute_may_not() -> None:
    run = Simulation(every(0.05, COMPUTES, count=2), bounds=bounds()).run(60)
    assert run.at(59).queue > 100, "there is more to do than the machine can"
    assert run.most_children() == 4


def test_when_a_load_turns_from_waiting_to_computing_the_surplus_leaves() -> None:
    load = together(every(0.1, WAITS, count=3, until_s=20), every(0.1, COMPUTES, count=6, start_s=21))
    run = Simulation(load, bounds=bounds(keepalive_s=10)).run(80)
    assert run.most_children(before_s=20) > 16
    assert run.at(79).children == 4


def test_a_sawtooth_does_not_fork_all_the_time() -> None:
    run = Simulation(every(10, WAITS, count=20), bounds=bounds()).run(200)
    assert run.most_children() >= 18
    assert run.forks < 40, "the teeth are closer together than children are kept"


def test_short_tasks_need_no_more_children_to_be_in_time() -> None:
    short = Work(wait_s=0.05)
    run = Simulation(every(0.05, short, count=2), bounds=bounds()).run(20)
    assert run.most_children() <= 8


def test_leaking_tasks_do_not_take_the_machine_down() -> None:
    leaks = Work(wait_s=0.5, cpu_s=0.005, leak_bytes=MIB)
    run = Simulation(
        every(0.1, leaks, count=10),
        bounds=bounds(most=100),
        machine=Machine(memory=4 * GIB),
        recycle_bytes=60 * MIB,  # --max-memory-per-child
    ).run(120)
    assert run.least_free() > 0
    assert 10 < run.at(119).children < 80


def test_a_leak_that_nobody_recycles_makes_children_leave() -> None:
    leaks = Work(wait_s=0.5, cpu_s=0.005, leak_bytes=MIB)
    run = Simulation(every(0.1, leaks, count=6), bounds=bounds(), machine=Machine(memory=4 * GIB)).run(90)
    assert run.most_children() > 25
    assert run.at(89).children < run.most_children()
    assert run.least_free() > 0


def test_hungry_tasks_get_as_many_children_as_have_room() -> None:
    hungry = Work(wait_s=1.0, cpu_s=0.005, bytes=300 * MIB)
    run = Simulation(every(0.1, hungry, count=5), bounds=bounds(), machine=Machine(memory=4 * GIB)).run(60)
    assert run.least_free() > 0
    assert 6 <= run.at(59).children <= 12


def test_a_neighbour_that_takes_the_memory_makes_children_leave_and_may_have_it() -> None:
    def neighbour(now_s: float) -> int:
        return 6 * GIB if 20 <= now_s < 60 else 0

    for has_pressure in (True, False):
        run = Simulation(
            every(0.1, WAITS, count=4),
            bounds=bounds(),
            neighbour=neighbour,
            machine=Machine(memory=8 * GIB, child=120 * MIB),
            has_pressure=has_pressure,
        ).run(160)
        before, during = run.at(19).children, run.at(58).children
        assert before > 30
        assert during < before - 10
        assert run.at(159).children > 30, "they come back when it is gone"


def test_nobody_is_sent_away_in_a_task() -> None:
    run = Simulation(at_once(1, Work(wait_s=100), count=10), bounds=bounds(keepalive_s=5)).run(60)
    assert run.at(59).busy == 10
    assert run.at(59).children == 10


# ---------------------------------------------------------------------------- the machine alone


def test_a_steady_number_follows_the_machine() -> None:
    steady = Bounds(most=8, least=1, cpus=8, steady=True)
    assert decide(seen(children=8), Past(), steady).target == 8
    short = seen(children=8, available_bytes=20 * MIB, child_bytes=200 * MIB)
    less = decide(short, Past(), steady)
    assert (less.target, "20 MiB are left" in less.why) == (6, True)
    plenty = seen(children=6, now_s=10.0)
    assert decide(plenty, less.past, steady).target == 6, "not at once: it was short just now"
    assert decide(seen(children=6, now_s=40.0), less.past, steady).target == 8


def test_it_says_what_it_is_held_back_by() -> None:
    burst = decide(seen(children=4, busy=4, waiting=20, task_s=1.0, cpu_share=0.01), Past(), bounds(most=6))
    assert (burst.target, burst.why) == (6, "the limit allows no more")
    free = decide(seen(children=4, busy=4, waiting=1, task_s=1.0, cpu_share=0.01), Past(), bounds(most=6))
    assert (free.target, free.why) == (5, "1 wait, 4 run")


def test_pressure_alone_is_a_reason() -> None:
    pressed = decide(seen(children=8, busy=8, waiting=100, task_s=1.0, pressure=15.0), Past(), bounds())
    assert pressed.target == 7
    assert "memory pressure 15 %" in pressed.why
    uneasy = decide(seen(children=8, busy=8, waiting=100, task_s=1.0, pressure=3.0), Past(), bounds())
    assert uneasy.target == 8


# ---------------------------------------------------------------------------- the parts


def test_demand_is_weighed_by_the_wait() -> None:
    assert demanded(seen(busy=2, waiting=10, task_s=5.0)) == 12
    assert demanded(seen(busy=2, waiting=10, task_s=0.001)) == 3
    assert demanded(seen(busy=2)) == 2


def test_caps() -> None:
    assert cpu_cap(seen(), cpus=4) == 4, "not known yet"
    assert cpu_cap(seen(cpu_share=1.0), cpus=1.5) == 2
    assert cpu_cap(seen(cpu_share=0.5), cpus=4) == 8
    assert cpu_cap(seen(cpu_share=0.0), cpus=4) == 200
    assert memory_cap(seen(children=4, child_bytes=GIB)) > 4
    assert memory_cap(seen(children=4, child_bytes=2 * GIB, own_bytes=0)) == 4, "those that are new will take theirs"


@given(
    children=st.integers(0, 60),
    busy=st.integers(0, 60),
    waiting=st.integers(0, 10**6),
    task_s=st.floats(0, 1e4),
    share=st.none() | st.floats(0, 1),
    available=st.integers(0, 64 * GIB),
    child=st.integers(1, 8 * GIB),
    pressure=st.none() | st.floats(0, 100),
    least=st.integers(0, 20),
    more=st.integers(0, 40),
)
def test_it_stays_within_bounds_and_at_most_doubles(
    children: int,
    busy: int,
    waiting: int,
    task_s: float,
    share: float | None,
    available: int,
    child: int,
    pressure: float | None,
    least: int,
    more: int,
) -> None:
    limits = Bounds(most=max(1, least + more), least=least, cpus=4)
    decision = decide(
        Observation(
            now_s=1.0,
            children=children,
            busy=min(busy, children),
            waiting=waiting,
            task_s=task_s,
            cpu_share=share,
            child_bytes=child,
            total_bytes=64 * GIB,
            available_bytes=available,
            pressure=pressure,
        ),
        Past(),
        limits,
    )
    if limits.least <= children <= limits.most:
        assert limits.least <= decision.target <= limits.most
    assert decision.target <= max(limits.least, children + max(4, children))
    assert not math.isnan(decision.target)


def test_the_picture_in_the_docs_is_that_of_this_policy() -> None:
    assert TARGET.read_text() == draw(), "draw it again: python -m tests.draw_scaling"
