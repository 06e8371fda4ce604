"""The ledger against its model: any operations in any order, and then everything comes to its end."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.ledger_model import NEVER, End, Kind, World

KINDS: list[Kind] = ["early", "late", "unknown", "big"]
ENDS: list[End] = ["finish", "ack", "result", "large", "reject", "requeue"]
SMALL, SLOT, WHICH = st.integers(1, 5), st.integers(0, 1), st.integers(0, 20)


class LedgerMachine(RuleBasedStateMachine):
    """Every rule is one operation of the engine, of a child, or of the broker."""

    world: World

    @initialize(
        separate=st.booleans(), task_bytes=st.sampled_from([4096, 8192]), berths=st.sampled_from([0, 0, 1, 3, 9])
    )
    def begin(self, separate: bool, task_bytes: int, berths: int) -> None:
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.world = World(Path(self.folder.name), separate=separate, task_bytes=task_bytes, berths=berths)

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))
    def claim(self, kinds: list[Kind]) -> None:
        self.world.claim(kinds)

    @rule(count=SMALL)
    def arrive(self, count: int) -> None:
        self.world.arrive(count)

    @rule()
    def take_odd(self) -> None:
        self.world.take_odd()

    @precondition(lambda self: self.world.held)
    @rule(which=WHICH, late=st.booleans(), first=st.booleans(), side=st.booleans())
    def place(self, which: int, late: bool, first: bool, side: bool) -> None:
        self.world.place(which, late=late, first=first, side=side)

    @precondition(lambda self: self.world.held)
    @rule(which=WHICH)
    def judge(self, which: int) -> None:
        self.world.judge(which)

    @precondition(lambda self: self.world.held)
    @rule(which=WHICH)
    def settle(self, which: int) -> None:
        self.world.settle(which)

    @precondition(lambda self: any(m.position for m in self.world.held))
    @rule(which=WHICH, key=st.sampled_from([None, b"other"]))
    def requeue(self, which: int, key: bytes | None) -> None:
        self.world.requeue(self._of_the_broker(which), key)

    @precondition(lambda self: any(m.position for m in self.world.held))
    @rule(which=WHICH)
    def give(self, which: int) -> None:
        self.world.give(self._of_the_broker(which))

    @precondition(lambda self: any(m.position for m in self.world.held))
    @rule(which=WHICH, after=st.integers(0, 30))
    def park(self, which: int, after: int) -> None:
        self.world.park(self._of_the_broker(which), after)

    def _of_the_broker(self, which: int) -> int:
        found = [n for n, message in enumerate(self.world.held) if message.position]
        return found[which % len(found)]

    @rule(passed=st.integers(0, 20), limit=SMALL)
    def due(self, passed: int, limit: int) -> None:
        self.world.due(passed, limit)

    @rule(limit=SMALL)
    def withdraw(self, limit: int) -> None:
        self.world.withdraw(limit)

    @rule()
    def deal(self) -> None:
        self.world.deal()

    @precondition(lambda self: self.world.children)
    @rule(slot=SLOT, depth=st.integers(0, 9))
    def set_depth(self, slot: int, depth: int) -> None:
        self.world.ledger.set_depth(slot, depth)

    @rule(slot=SLOT)
    def start(self, slot: int) -> None:
        if slot in self.world.children:
            self.world.start(slot)

    @rule(slot=SLOT, which=WHICH)
    def store(self, slot: int, which: int) -> None:
        if slot in self.world.children:
            self.world.store(slot, which)

    @rule(slot=SLOT, how=st.sampled_from(ENDS), which=WHICH)
    def end(self, slot: int, how: End, which: int) -> None:
        if slot in self.world.children:
            self.world.end(slot, how, which)

    @rule(slot=SLOT)
    def recall(self, slot: int) -> None:
        if slot in self.world.children:
            self.world.recall(slot)

    @rule(slot=SLOT)
    def dismiss(self, slot: int) -> None:
        if slot in self.world.children:
            self.world.dismiss(slot)

    @rule(slot=SLOT)
    def bury(self, slot: int) -> None:
        if slot in self.world.children:
            self.world.bury(slot)

    @rule(slot=SLOT)
    def reopen(self, slot: int) -> None:
        self.world.reopen(slot)

    @rule()
    def collect(self) -> None:
        self.world.collect()

    @rule(linger_ns=st.sampled_from([0, 0, NEVER]))
    def flush(self, linger_ns: int) -> None:
        self.world.flush(linger_ns)

    @rule()
    def confirm(self) -> None:
        self.world.confirm()

    @rule()
    def flush_results(self) -> None:
        self.world.flush_results()

    @rule()
    def confirm_results(self) -> None:
        self.world.confirm_results()

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.drain()
            self.world.check_end()
        finally:
            self.world.close()
            self.folder.cleanup()


LedgerMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=60)
TestLedger = LedgerMachine.TestCase


def step(world: World, chance: random.Random) -> None:
    """One operation of those that are possible, the usual ones more often."""
    which, slot = chance.randrange(20), chance.randrange(2)
    of_the_broker = [n for n, message in enumerate(world.held) if message.position]
    held = of_the_broker[which % len(of_the_broker)] if of_the_broker else None
    steps: list[Callable[[], object]] = [
        lambda: world.claim(chance.choices(KINDS, [8, 8, 3, 1], k=chance.randrange(1, 7))),
        lambda: world.arrive(chance.randrange(1, 9)),
        world.take_odd,
        world.deal,
        world.collect,
        lambda: world.flush(chance.choice([0, NEVER])),
        world.confirm,
        world.flush_results,
        world.confirm_results,
        lambda: world.due(chance.randrange(20), chance.randrange(1, 5)),
    ]
    if chance.random() < 0.1:
        steps.append(lambda: world.withdraw(chance.randrange(1, 9)))
    if world.held:
        flags = {name: chance.random() < 0.3 for name in ("late", "first", "side")}
        steps += [lambda: world.place(which, **flags)] * 2 + [lambda: world.judge(which), lambda: world.settle(which)]
    if held is not None:
        steps += [
            lambda: world.requeue(held, chance.choice([None, b"other"])),
            lambda: world.give(held),
            lambda: world.park(held, chance.randrange(30)),
        ]
    if slot in world.children:
        steps += [lambda: world.start(slot), lambda: world.end(slot, chance.choice(ENDS), which)] * 4
        steps += [lambda: world.store(slot, which), lambda: world.ledger.set_depth(slot, chance.randrange(9))]
        if chance.random() < 0.2:
            steps += [lambda: world.recall(slot), lambda: world.dismiss(slot), lambda: world.bury(slot)]
    else:
        steps.append(lambda: world.reopen(slot))
    chance.choice(steps)()


@pytest.mark.parametrize("seed", range(40))
def test_long_walks(seed: int, tmp_path: Path) -> None:
    """The same operations by chance, far longer."""
    chance = random.Random(seed)
    berths = [0, 2, 0, 7][seed // 2 % 4]
    world = World(tmp_path, separate=bool(seed % 2), task_bytes=[4096, 8192, 16384][seed % 3], berths=berths)
    for number in range(1500):
        step(world, chance)
        world.check() if number % 5 == 0 else None
    world.drain()
    world.check_end()
    world.close()
