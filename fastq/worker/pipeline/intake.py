"""Claim messages: in batches while there is a backlog, one by one and at once while there is none.

Waiting costs nothing: each queue key has a connection that blocks in BLMOVE, so the server wakes one worker for one
message. When messages come quickly, or a backlog is known, claims are made by transactions of up to MOST messages
instead.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Protocol

import msgspec

from fastq import _core, clock
from fastq.transport.redis import commands
from fastq.transport.redis.stream import Stream
from fastq.worker.pipeline.overtaking import Overtaking
from fastq.worker.poll import Timers

logger: logging.Logger = logging.getLogger(__name__)

#: Messages of one claim. The server does nothing else for the 1.4 µs that each takes; a reply is about a kilobyte a
#: message.
MOST = 256

#: Claims on their way at once, so that the next batch arrives while the last is dealt, however far the server is.
PIPELINED = 3

#: Seconds between two messages that came by waiting, below which it is cheaper to claim in batches. One client that
#: waits for each result before it sends the next task is never that fast: it always has the shortest way.
HURRY_S = 0.0003

#: Messages that a claim has to bring for batches to be worth their delay. Fewer come faster one by one.
WORTH_PULLING = 4

#: Seconds between claims when messages trickle in: the longest that batching may delay one.
PULL_S = 0.001

#: Messages asked for when none is known to wait.
PULLED = 32

#: Seconds after which a blocked connection is asked to answer, so that a dead one is noticed. It costs two commands.
WAIT_S = 30


class QueueKey(msgspec.Struct, frozen=True, kw_only=True):
    """One list on the server: a queue at one priority step."""

    queue: str
    step: int
    key: bytes
    claim_prefix: bytes
    index: bytes


class Order(Protocol):
    """Which keys to claim from next, given their lengths: (key number, count) pairs (see `order.py`)."""

    def __call__(self, lengths: Sequence[int], want: int) -> list[tuple[int, int]]: ...


class Expected(Protocol):
    """A reply that is to come on the claiming connection."""

    def begin(self, reader: _core.Reader) -> None: ...
    def read(self, reader: _core.Reader) -> bool: ...


class Skip:
    """Replies that nobody needs; errors among them are logged."""

    def __init__(self, count: int) -> None:
        self._left = count

    def begin(self, reader: _core.Reader) -> None: ...

    def read(self, reader: _core.Reader) -> bool:
        self._left = reader.skip_replies(self._left)
        for error in reader.take_errors():
            logger.warning("Redis: %s", error.decode("utf-8", "replace"))
        return self._left == 0


class Unblock:
    """The answer of CLIENT UNBLOCK, which travels on another connection than what it is to end. If it was faster, the
    waiter would block for WAIT_S all the same, and a worker that stops would wait with it: so it is asked again."""

    def __init__(self, intake: Intake, waiter: Waiter) -> None:
        self._intake, self._waiter, self._n = intake, waiter, waiter.n

    def begin(self, reader: _core.Reader) -> None: ...

    def read(self, reader: _core.Reader) -> bool:
        whole, answer = reader.value()
        if isinstance(answer, RuntimeError):
            logger.warning("Redis: %s", answer)
        elif whole and answer == 0 and self._waiter.armed and self._waiter.n == self._n:
            self._intake.unblock(self._waiter)
        return whole


class Claim:
    """A claiming transaction on its way."""

    def __init__(self, intake: Intake, *, key: int, count: int, over: bool = False) -> None:
        self.key: int = key
        self.count: int = count
        self.over: bool = over
        self.batch: int
        self.n: int
        self.batch, self.n = intake.ledger.open_batch(key, count)
        #: Keys whose lengths it asks for: those that were known when it was sent.
        self.lengths: int = len(intake.keys)
        self._intake = intake
        self._sent_at = clock.monotonic()

    def begin(self, reader: _core.Reader) -> None:
        reader.expect_claim(self.batch, self.count, self.lengths)

    def read(self, reader: _core.Reader) -> bool:
        answer = reader.read_claim(self._intake.ledger)
        if answer is None:
            return False
        self._intake.claimed(self, answer, errors=reader.take_errors(), took_s=clock.monotonic() - self._sent_at)
        return True


class Waiter:
    """A connection that blocks for one message of one key."""

    def __init__(self, intake: Intake, *, key: int, stream: Stream, client_id: int | None) -> None:
        self.key: int = key
        self.stream: Stream = stream
        self.client_id: int | None = client_id
        self.batch: int | None = None
        self.n: int = 0
        self._intake = intake
        self._skip = 0
        self._stale: int | None = None
        self.leaving: bool = False

    @property
    def armed(self) -> bool:
        return self.batch is not None

    def arm(self) -> None:
        key = self._intake.keys[self.key]
        self.batch, self.n = self._intake.ledger.open_batch(self.key, 1)
        self.leaving = False
        self._skip += 1
        forget = b""
        if self._stale is not None:
            forget, self._skip, self._stale = commands.pack("SREM", key.index, self._stale), self._skip + 1, None
        into = key.claim_prefix + b"%d" % self.n
        wait = commands.claim_blocking(key.key, into=into, index=key.index, n=self.n, timeout_s=WAIT_S)
        self.stream.send(forget + wait)

    def ready(self) -> None:
        """Something has arrived."""
        self.stream.receive()
        reader = self.stream.reader
        self._skip = reader.skip_replies(self._skip)
        if self._skip or self.batch is None:
            return
        moved = reader.read_moved(self._intake.ledger, self.batch)
        if moved is None:
            return
        self._intake.ledger.close_batch(self.batch)
        self.batch = None
        if not moved:
            self._stale = self.n
            for error in reader.take_errors():
                logger.error("Redis refused to wait for messages: %s", error.decode("utf-8", "replace"))
        self._intake.waited(self, moved=moved)


class Intake:
    """The claiming side of a worker. `credit` says how many messages it may take now."""

    def __init__(
        self,
        ledger: _core.Ledger,
        *,
        keys: Sequence[QueueKey],
        order: Order,
        timers: Timers,
        credit: Callable[[], int],
        round_trip: Callable[[float], None],
    ) -> None:
        self.ledger = ledger
        #: A key keeps its number as long as the worker lives: claims, frames and the registry speak of numbers.
        self.keys: list[QueueKey] = []
        #: By key: how many priority steps go before it.
        self.ranks: list[int] = []
        #: How many of them, from the first, the registry knows. From others nothing may be claimed: should the worker
        #: die, nobody would look for its claims there.
        self.registered: int = 0
        self._cancelled: set[int] = set()
        self._order, self._timers, self._credit, self._round_trip = order, timers, credit, round_trip
        self._stream: Stream | None = None
        self._expected: deque[Expected] = deque()
        self._claims = 0
        self._asked = 0  # messages that claims on their way may bring
        self._waiters: list[Waiter] = []
        self._lengths: list[int] = []
        self._pulling = True  # a backlog is likely at the start, and one claim tells
        self._quiet = False
        self._fired_at = 0.0
        self._last_key = -1
        self._overtaking = Overtaking(self, timers=timers)
        #: The key that is read before all others, if there is only one such.
        self._only_first: int | None = None
        self.add(keys, order=order)

    # Queues

    def add(self, keys: Sequence[QueueKey], *, order: Order) -> None:
        """Know these lists from now on, and claim from them as soon as they are registered."""
        steps = sorted({key.step for key in keys})
        ranks = {step: rank for rank, step in enumerate(steps)}
        for key in keys:
            self.ledger.add_key(key.key, key.claim_prefix, key.index, key.queue.encode(), ranks[key.step])
            self.keys.append(key)
            self.ranks.append(ranks[key.step])
            self._lengths.append(0)
        self._order = order
        self._look_again()

    def numbers(self, queue: str) -> list[int]:
        """The keys of a queue, by number; none if it was never consumed."""
        return [number for number, key in enumerate(self.keys) if key.queue == queue]

    def cancel(self, queue: str) -> None:
        """Claim no more from a queue. What is on its way still arrives."""
        numbers = self.numbers(queue)
        self._cancelled.update(numbers)
        for number in numbers:
            self._lengths[number] = 0
        self._disarm(set(numbers))
        self._look_again()

    def resume(self, queue: str) -> None:
        """Claim again from a queue that was cancelled."""
        self._cancelled.difference_update(self.numbers(queue))
        self._look_again()

    @property
    def active(self) -> list[int]:
        """The keys that are to be claimed from, by number."""
        return [number for number in range(len(self.keys)) if number not in self._cancelled]

    @property
    def unattended(self) -> list[int]:
        """Those of them that no connection waits on."""
        attended = {waiter.key for waiter in self._waiters}
        return [number for number in self.active if number not in attended]

    def _look_again(self) -> None:
        active = self.active
        self._only_first = active[0] if len({self.keys[number].queue for number in active}) == 1 else None
        self._pulling = True

    def _may_claim(self, key: int) -> bool:
        return 0 <= key < self.registered and key not in self._cancelled

    @property
    def lengths(self) -> Sequence[int]:
        """How many messages wait behind each key, as the server said last."""
        return self._lengths

    # Connections

    def up(self, stream: Stream, *, waiters: Sequence[tuple[int, Stream, int | None]], registered: int) -> None:
        """Connections are there: `waiters` are (key number, stream, client id); so many keys are `registered`."""
        self._stream = stream
        self._waiters = []
        self.more(waiters, registered=registered)
        self._lengths = [0] * len(self.keys)
        self._pulling = True

    def more(self, waiters: Sequence[tuple[int, Stream, int | None]], *, registered: int) -> None:
        """Keys that were added have been registered, and got connections of their own."""
        self._waiters += [Waiter(self, key=key, stream=s, client_id=i) for key, s, i in waiters]
        self.registered = max(self.registered, registered)
        self._pulling = True

    def lost(self) -> list[tuple[int, bytes]]:
        """Connections are gone. Returns the claims that nobody answered: (batch, claim list)."""
        asked = [(c.batch, c.key, c.n) for c in self._expected if isinstance(c, Claim)]
        asked += [(w.batch, w.key, w.n) for w in self._waiters if w.batch is not None]
        self._stream = None
        self._waiters = []
        self._expected.clear()
        self._claims = self._asked = 0
        self._timers.cancel("pull")
        return [(batch, self.keys[key].claim_prefix + b"%d" % n) for batch, key, n in asked]

    def reconcile(self, claims: Sequence[tuple[int, bytes]], found: Mapping[bytes, Sequence[bytes]]) -> None:
        """What the server says the unanswered claims hold: lists as LRANGE gives them."""
        for batch, claim in claims:
            messages = list(reversed(found.get(claim, ())))
            for message in messages[self.ledger.batch_size(batch) :]:
                self.ledger.take_one(batch, message)
            self.ledger.close_batch(batch)

    @property
    def connected(self) -> bool:
        return self._stream is not None

    @property
    def streams(self) -> list[Stream]:
        return [s for s in (self._stream, *(w.stream for w in self._waiters)) if s is not None]

    def ready(self, stream: Stream) -> None:
        """Something has arrived on one of the streams."""
        if stream is not self._stream:
            next(w for w in self._waiters if w.stream is stream).ready()
            return
        stream.receive()
        while self._expected and self._expected[0].read(stream.reader):
            self._expected.popleft()
            if self._expected:
                self._expected[0].begin(stream.reader)

    # Claiming

    def pump(self) -> None:
        """Claim, or wait, as credit and what is known of the queues say."""
        if self._stream is None or self._quiet:
            return
        credit = self._credit() - self._asked
        if credit <= 0:
            self._disarm()
            if self.ledger.last_rank:
                self._overtaking.pump()
            return
        self._overtaking.pause()
        if any(n > 0 for n in self._lengths):
            self._claim_backlog(credit)
        elif self._pulling:
            self._pull(credit)
        else:
            self._arm()

    def _claim_backlog(self, credit: int) -> None:
        while credit > 0 and self._claims < PIPELINED:
            shares = self._order(self._lengths, min(credit, MOST))
            if not shares:
                return
            for key, count in shares:
                self._claim(key, count)
                credit -= count

    def _pull(self, credit: int) -> None:
        # Nothing is known to wait, but something may: ask where something was found last. The reply tells all lengths.
        # Where order matters, look at the lengths first.
        if self._claims == 0 and "pull" not in self._timers:
            certain = self._last_key == self._only_first
            key = self._last_key if self._may_claim(self._last_key) else self._any_key()
            if key is not None:
                self._claim(key, min(credit, PULLED) if certain else 0)

    def look(self) -> None:
        """Ask for the queues' lengths."""
        key = self._any_key()
        if key is not None:
            self._claim(key, 0)

    def overtake(self, key: int, count: int) -> None:
        """Claim more than there is credit for; as many less urgent messages are given back."""
        self._claim(key, count, over=True)

    @property
    def claiming(self) -> bool:
        """Whether claims are on their way."""
        return self._claims > 0

    @property
    def full(self) -> bool:
        """Whether there is no credit, though there are connections."""
        return self._stream is not None and not self._quiet and self._credit() - self._asked <= 0

    def _any_key(self) -> int | None:
        return next((key for key in self.active if self._may_claim(key)), None)

    def _claim(self, key: int, count: int, *, over: bool = False) -> None:
        assert self._stream is not None
        claim, target = Claim(self, key=key, count=count, over=over), self.keys[key]
        into = target.claim_prefix + b"%d" % claim.n
        self._lengths[key] -= count
        self._claims += 1
        self._asked += count
        data = commands.claim(
            target.key, into=into, index=target.index, n=claim.n, count=count, lengths_of=[k.key for k in self.keys]
        )
        self.ask(data, claim)

    def ask(self, data: bytes, expected: Expected) -> None:
        """Send commands on the claiming connection and expect their replies."""
        assert self._stream is not None
        self._expected.append(expected)
        if len(self._expected) == 1:
            expected.begin(self._stream.reader)
        self._stream.send(data)

    def claimed(self, claim: Claim, lengths: list[int], *, errors: list[bytes], took_s: float) -> None:
        """A claim has been answered."""
        self._claims -= 1
        self._asked -= claim.count
        taken = self.ledger.close_batch(claim.batch)
        if errors and not taken:
            self._refused(errors[0])
            return
        self._round_trip(took_s)
        if taken:
            self._last_key = claim.key
        if taken == 0:
            self._forget(claim)
        # Keys that came since are looked at next; what is cancelled counts as empty.
        known = len(lengths)
        self._lengths = [lengths[k] if k < known and self._may_claim(k) else 0 for k in range(len(self.keys))]
        for other in self._expected:
            if isinstance(other, Claim) and other is not claim:
                self._lengths[other.key] -= other.count
        if claim.over:
            self._give_back(taken, claim.key)
        if known < self.registered:
            self._pulling = True
        elif not any(n > 0 for n in self._lengths):
            self._backlog_gone(taken)
        elif self._pulling:
            self._timers.cancel("pull")

    def _give_back(self, count: int, key: int) -> None:
        """Messages of this key came beyond what may be held: as many less urgent ones go back."""
        if not self._quiet:
            for back in self.ledger.give_back(count, self.ranks[key]):
                self._lengths[back] += 1

    def _backlog_gone(self, taken: int) -> None:
        if taken >= WORTH_PULLING:
            self._timers.set("pull", PULL_S, self.pump)
        else:
            self._pulling = False

    def _forget(self, claim: Claim) -> None:
        self.ask(commands.pack("SREM", self.keys[claim.key].index, claim.n), Skip(1))

    def _refused(self, error: bytes) -> None:
        # The server is there and will not: out of memory, read-only, no permission. It may change its mind.
        if b"unknown command" in error:
            error += b" (fastq needs Redis 6.2 or later, or Valkey)"
        logger.error("Redis refused a claim: %s. Trying again in 1 second.", error.decode("utf-8", "replace"))
        self._lengths = [0] * len(self.keys)
        self._pulling = True
        self._timers.set("pull", 1.0, self.pump)

    # Waiting

    def _arm(self) -> None:
        for waiter in self._waiters:
            if not waiter.armed and self._may_claim(waiter.key):
                waiter.arm()

    def _disarm(self, keys: Container[int] | None = None) -> None:
        for waiter in self._waiters:
            concerned = keys is None or waiter.key in keys
            if concerned and waiter.armed and not waiter.leaving and waiter.client_id is not None:
                waiter.leaving = True
                self.unblock(waiter)

    def unblock(self, waiter: Waiter) -> None:
        """Have the server end a wait."""
        assert waiter.client_id is not None
        self.ask(commands.pack("CLIENT", "UNBLOCK", waiter.client_id), Unblock(self, waiter))

    def waited(self, waiter: Waiter, *, moved: bool) -> None:
        """A waiter has been answered."""
        if not moved:
            return
        if self.ledger.last_rank > self.ranks[waiter.key] and self._credit() < self._asked:
            self._give_back(1, waiter.key)  # it was faster than the end of the wait
        now = clock.monotonic()
        self._last_key = waiter.key
        if now - self._fired_at < HURRY_S:
            self._pulling = True
        self._fired_at = now

    # Stopping

    def quiet(self) -> None:
        """Claim no more; what is on its way still arrives."""
        self._quiet = True
        if self._stream is not None:
            self._disarm()

    @property
    def drained(self) -> bool:
        """Whether nothing more can arrive."""
        armed = any(w.armed and w.client_id is not None for w in self._waiters)
        return self._stream is None or (self._claims == 0 and not armed)
