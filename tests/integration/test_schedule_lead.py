"""The lead of a schedule, on a real server: who has it, what happens to who lost it, and that nothing is sent twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from fastq.app.leader import Scheduler, Trouble, firing_id
from fastq.app.schedule import Entry
from fastq.schedules import Missed, every
from fastq.transport.connect import Endpoint
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.schedule import ScheduleStore
from tests.eventually import eventually
from tests.fix_redis import Database, RedisServer

APP = "shop"
KEYS = Keys(prefix="p:")
QUEUE = "p:celery"


def entry(name: str = "tick", seconds: float = 0.2, missed: Missed = "once", **more: Any) -> Entry:
    return Entry(name=name, task=f"t.{name}", schedule=every(seconds), missed=missed, **more)


def compose(wanted: Entry, due_ms: int) -> tuple[str, str, None]:
    return QUEUE, f"{wanted.name} {due_ms} {firing_id(APP, wanted.name, due_ms)}", None


class Bench:
    """Makes schedulers on one database, and reads what they have sent."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.client = db.client
        self.clients: list[redis.Redis] = []

    def store(self, *, lead_ms: int = 5_000) -> ScheduleStore:
        self.clients.append(Endpoint.parse(self.db.url).client(timeout_s=2))
        return ScheduleStore(self.clients[-1], app=APP, keys=KEYS, lead_ms=lead_ms)

    def scheduler(self, *entries: Entry, who: str = "one", lead_ms: int = 5_000, make: Any = compose) -> Scheduler:
        table = {given.name: given for given in entries or (entry(),)}
        return Scheduler(APP, table, store=self.store(lead_ms=lead_ms), compose=make, who=who)

    def sent(self, name: str = "tick") -> list[int]:
        """Due times in the order in which they were sent."""
        lines = [line.decode().split() for line in self.db.entries(QUEUE)]
        return [int(due) for found, due, _id in lines if found == name]

    def last(self, name: str = "tick") -> int:
        return self.store().look()[1][name].last_ms

    def set_back(self, seconds: float, name: str = "tick") -> None:
        """As if it had been done so long ago, and nobody has been there since."""
        _, states, now_ms = self.store().look()
        self.client.hset(KEYS.schedule_entries(APP), name, f"{now_ms - int(seconds * 1000)} 0 {states[name].spec}")


@pytest.fixture
def bench(db: Database) -> Iterator[Bench]:
    made = Bench(db)
    yield made
    for client in made.clients:
        client.close()


def steps(*schedulers: Scheduler, until: Callable[[], object], within_s: float = 5) -> None:
    """Let them work as their processes would, but in turns and without rest."""

    def work() -> object:
        for scheduler in schedulers:
            scheduler.step()
        return until()

    eventually(work, within_s=within_s)


def test_each_due_time_is_sent_once_however_many_there_are(bench: Bench) -> None:
    ones = [bench.scheduler(who=f"number {n}") for n in range(3)]
    steps(*ones, until=lambda: len(bench.sent()) >= 4)
    sent = bench.sent()
    assert sent == list(range(sent[0], sent[-1] + 1, 200))
    holder, states, _now = bench.store().look()
    assert holder == "1 number 0"
    assert states["tick"].last_ms == sent[-1]
    assert states["tick"].sent_ms >= sent[-1]


def test_a_new_entry_starts_now_and_a_removed_one_is_forgotten(bench: Bench) -> None:
    first = bench.scheduler(entry("old"), entry("both", 3600))
    first.step()
    before = bench.last("both")
    first.leave()
    second = bench.scheduler(entry("new"), entry("both", 3600))
    second.step()
    _, states, now_ms = bench.store().look()
    assert sorted(states) == ["both", "new"]
    assert states["both"].last_ms == before
    assert 0 <= now_ms - states["new"].last_ms < 5_000


def test_an_entry_of_another_time_starts_anew(bench: Bench) -> None:
    bench.scheduler(entry(seconds=3600)).step()
    bench.set_back(7200)
    bench.client.delete(KEYS.schedule(APP))
    changed = bench.scheduler(entry(seconds=1800))
    changed.step()
    changed.step()
    assert bench.sent() == []


@pytest.mark.parametrize(("missed", "count"), [("skip", 0), ("once", 1), ("all", 3), (2, 2)])
def test_what_was_missed_while_nobody_was_there(bench: Bench, missed: Missed, count: int) -> None:
    hourly = entry(seconds=3600, missed=missed)
    bench.scheduler(hourly).leave()
    first = bench.scheduler(hourly)
    first.step()
    first.leave()
    bench.set_back(3 * 3600)
    second = bench.scheduler(hourly)
    for _ in range(3):
        second.step()
    _, _, now_ms = bench.store().look()
    newest = now_ms // 3_600_000 * 3_600_000
    if now_ms - newest < 40_000:
        pytest.skip("the hour has just begun: this due time was not missed")
    assert bench.sent() == [newest - 3_600_000 * back for back in reversed(range(count))]
    assert bench.last() == newest


def test_who_was_away_for_longer_than_the_lead_sends_nothing(bench: Bench) -> None:
    slow, other = bench.scheduler(who="slow", lead_ms=300), bench.scheduler(who="other", lead_ms=60_000)
    steps(slow, until=bench.sent)
    steps(other, until=lambda: bench.store().look()[0] == "2 other")  # slow does not step: it is paused
    steps(other, until=lambda: len(bench.sent()) >= 4)
    time.sleep(0.2)  # something is due, and slow wakes up first
    before = len(bench.sent())
    slow.step()
    assert len(bench.sent()) == before
    steps(slow, other, until=lambda: len(bench.sent()) > before)
    assert len(set(bench.sent())) == len(bench.sent())


def test_a_lead_that_ended_is_no_lead_even_if_nobody_took_it(bench: Bench) -> None:
    store = bench.store(lead_ms=50)
    lead = store.campaign("me").lead
    assert lead == "1 me"
    assert store.enter(lead, {"tick": "every 1 s"}, remembered={}) is not None
    eventually(lambda: not bench.client.exists(KEYS.schedule(APP)))
    assert store.renew(lead) is None
    assert store.fire(lead, "tick", due_ms=2**42, spec="every 1 s", queue=QUEUE, message="m") == "lost"
    assert store.enter(lead, {}, remembered={}) is None
    assert bench.db.length(QUEUE) == 0


def test_a_due_time_is_recorded_and_sent_in_one_step(bench: Bench) -> None:
    store = bench.store()
    lead = store.campaign("me").lead
    store.enter(lead, {"tick": "every 1 s"}, remembered={})
    due_ms = bench.last() + 1000

    def fire() -> str:
        return store.fire(lead, "tick", due_ms=due_ms, spec="every 1 s", queue=QUEUE, message="m")

    assert [fire(), fire()] == ["sent", "done"]
    assert bench.db.length(QUEUE) == 1
    bench.client.set("p:other", "no list")
    with pytest.raises(redis.ResponseError):
        store.fire(lead, "tick", due_ms=due_ms + 1, spec="every 1 s", queue="p:other", message="m")
    assert bench.last() == due_ms


def test_a_lead_that_is_given_back_is_free_at_once(bench: Bench) -> None:
    first, second = bench.scheduler(who="first"), bench.scheduler(who="second")
    first.step()
    assert second.step() <= 1.0
    first.leave()
    second.step()
    assert bench.store().look()[0] == "2 second"
    first.leave()  # it is not ours any more
    assert bench.store().look()[0] == "2 second"


def test_an_entry_that_is_refused_holds_up_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.client.set("p:text", "no list")

    def make(wanted: Entry, due_ms: int) -> tuple[str, str, None]:
        queue, message, _ = compose(wanted, due_ms)
        return ("p:text" if wanted.name == "bad" else queue), message, None

    scheduler = bench.scheduler(entry("bad"), entry("tick"), make=make)
    steps(scheduler, until=lambda: len(bench.sent()) >= 5)
    assert len([record for record in caplog.records if "refused" in record.message]) == 1
    bench.client.delete("p:text")
    steps(scheduler, until=lambda: bench.db.length("p:text") >= 1)


def test_arguments_that_cannot_be_written_are_told_and_passed_over(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def make(wanted: Entry, due_ms: int) -> tuple[str, str, None]:
        if wanted.name == "bad":
            raise TypeError("not JSON")
        return compose(wanted, due_ms)

    scheduler = bench.scheduler(entry("bad", 3600), entry("tick"), make=make)
    scheduler.step()
    bench.set_back(3600, "bad")
    scheduler.leave()
    steps(scheduler, until=lambda: len(bench.sent()) >= 2)
    assert len([record for record in caplog.records if "no message can be made for bad" in record.message]) == 1


def test_an_outage_is_told_once_and_nothing_of_it_is_lost(
    aof_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = Endpoint.parse(aof_server.url()).client(timeout_s=2)
    store = ScheduleStore(client, app=APP, keys=KEYS)
    often = entry(missed="all")
    scheduler = Scheduler(APP, {"tick": often}, store=store, compose=compose, who="one")

    def sent() -> list[bytes]:
        return client.lrange(QUEUE, 0, -1)  # type: ignore[return-value]

    caplog.set_level("INFO")
    steps(scheduler, until=lambda: len(sent()) >= 2)
    aof_server.kill()
    steps(scheduler, until=lambda: "cannot be asked" in caplog.text)
    for _ in range(20):
        assert scheduler.step() < 11
    aof_server.start()
    before = len(sent())
    steps(scheduler, until=lambda: len(sent()) >= before + 4)
    due = sorted(int(line.split()[1]) for line in sent())
    assert due == list(range(due[0], due[-1] + 1, 200))
    troubles = [record.message for record in caplog.records if "broker" in record.message]
    assert len(troubles) == 2, troubles
    client.close()


def test_a_server_that_has_forgotten_everything_is_reminded(bench: Bench) -> None:
    scheduler = bench.scheduler(entry(missed="all"))
    steps(scheduler, until=lambda: len(bench.sent()) >= 2)
    sent = bench.sent()
    bench.client.flushdb()
    scheduler._renew_at_s = 0.0
    time.sleep(0.5)
    steps(scheduler, until=lambda: len(bench.sent()) >= 2)
    assert bench.sent()[0] == sent[-1] + 200


def test_the_same_due_time_has_the_same_id_everywhere() -> None:
    assert firing_id("shop", "tick", 1000) == firing_id("shop", "tick", 1000)
    assert len({firing_id(app, name, due) for app in "ab" for name in "ab" for due in (1, 2)}) == 8


def test_trouble_is_told_again_after_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("fastq.clock.monotonic", lambda: now[0])
    trouble = Trouble()
    for second in range(0, 200, 2):
        now[0] = float(second)
        assert 0 < trouble.met(OSError("gone")) <= 10
    assert len(caplog.records) == 4
