"""The broker's connections as one thing: all there, or none. Rebuilt whole after any of them is lost.

Half a set of connections is how workers end up connected and deaf. So there is one state, up or down, and one way from
each to the other.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable

import msgspec
import redis

from fastq.errors import BrokerRefused, BrokerUnavailable, FastqError
from fastq.transport.connect import Endpoint, explain
from fastq.transport.redis import cancelled
from fastq.transport.redis.stream import Stream
from fastq.worker.cluster.lease import Lease, Welcome
from fastq.worker.cluster.mingle import Ask, Mingle, Replies
from fastq.worker.cluster.subscriptions import Subscriptions
from fastq.worker.pipeline.intake import Intake
from fastq.worker.pipeline.settle import DEADLINE_S, ResultStore, Settler
from fastq.worker.poll import Errands, Poller, Timers

logger: logging.Logger = logging.getLogger(__name__)

#: Seconds before the first and at most between two later tries to connect again.
FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0

#: Celery's steps at start: 2, 4, ... 30 seconds.
START_STEP_S, START_LAST_S = 2.0, 30.0

#: Keys that get a connection of their own to wait on; further ones are looked at when something else is claimed.
MOST_WAITERS = 64


#: Connections that there always are: to claim, to settle, to hear.
ALWAYS = 3


class Registration(msgspec.Struct, frozen=True):
    """What the registration of further queue keys brings back: how many keys are registered, who waits on them."""

    keys: int
    waiters: list[tuple[int, Stream, int | None]]


class Connections(msgspec.Struct, frozen=True):
    """What a successful errand brings back."""

    claims: Stream
    settles: Stream
    hears: Stream
    #: Channels that `hears` has asked for.
    asked: set[bytes]
    waiters: list[tuple[int, Stream, int | None]]
    welcome: Welcome
    #: Ids of cancelled tasks.
    cancelled: list[str]
    #: What other workers have answered to our greeting; None: nobody was greeted.
    replies: Replies | None = None


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """Celery's settings for connections that fail."""

    on_startup: bool = True
    later: bool = True
    #: None: for ever.
    most: int | None = 100
    timeout_s: float = 4.0


class Broker:
    """Keeps the connections to the broker, and says when they come and go."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        lease: Lease,
        intake: Intake,
        settler: Settler,
        subscriptions: Subscriptions,
        poller: Poller,
        timers: Timers,
        errands: Errands,
        retries: Retries,
        came: Callable[[Welcome], None],
        went: Callable[[], None],
        failed: Callable[[FastqError], None],
    ) -> None:
        self._endpoint, self._lease, self._intake, self._settler = endpoint, lease, intake, settler
        self._subscriptions = subscriptions
        self._poller, self._timers, self._errands, self._retries = poller, timers, errands, retries
        self._came, self._went, self._failed = came, went, failed
        self._streams: dict[int, tuple[Stream, Callable[[Stream], None]]] = {}
        self._unanswered: list[tuple[int, bytes]] = []
        self._tries = 0
        self._was_up = False
        self._closed = False
        self._completing = False
        #: Counts connections.
        self._connection = 0
        self.up: bool = False
        #: Greets other workers at every connection; None: does not.
        self.mingle: Mingle | None = None
        #: Told at every connection, before anything is claimed, which tasks are cancelled.
        self.cancelled: Callable[[list[str]], None] = lambda _ids: None

    # Connecting

    def dial(self) -> None:
        """Connect, in a thread."""
        if not self._closed:
            hello = self.mingle.hello() if self.mingle is not None else None
            self._errands.run(lambda: self._connect(hello), self._connected, name="fastq-dial")

    def _connect(self, hello: Ask | None) -> Connections:
        opened: list[Stream] = []
        try:
            return self._open_all(opened, hello)
        except BaseException:
            for stream in opened:
                stream.close()
            raise

    def _open_all(self, opened: list[Stream], hello: Ask | None) -> Connections:
        name = f"fastq:{self._lease.me.node}"
        client = self._endpoint.client(timeout_s=self._retries.timeout_s)
        for _ in range(ALWAYS):
            opened.append(Stream(self._endpoint.open(self._retries.timeout_s, client_name=name)))
        # Before this worker hears such questions itself, and before it takes what others may have revoked.
        replies = hello(client) if hello is not None else None
        asked = self._subscriptions.greet(opened[2])
        waiters = [self._open_waiter(key, opened, name) for key in self._intake.active[:MOST_WAITERS]]
        try:
            welcome = self._lease.enter(client, [claim for _, claim in self._unanswered])
            # What is cancelled from now on, this worker hears: it has subscribed some answers ago.
            ids = cancelled.read(client, self._lease.keys)
        except redis.RedisError as error:
            raise explain(error, address=self._endpoint.addresses[0]) from error
        finally:
            client.close()
        return Connections(opened[0], opened[1], opened[2], asked, waiters, welcome, ids, replies)

    def _open_waiter(self, key: int, opened: list[Stream], name: str) -> tuple[int, Stream, int | None]:
        connection = self._endpoint.open(self._retries.timeout_s, client_name=name)
        try:
            identity = connection.client_id(timeout_s=self._retries.timeout_s)
        except BrokerUnavailable:
            connection.close()
            raise
        opened.append(Stream(connection))
        return key, opened[-1], identity

    def _connected(self, outcome: Connections | Exception) -> None:
        if isinstance(outcome, Exception):
            self._not_connected(outcome)
            return
        if self._closed:
            for stream in (outcome.claims, outcome.settles, outcome.hears, *(s for _, s, _ in outcome.waiters)):
                stream.close()
            return
        self._tries = 0
        self._connection += 1
        self.up = self._was_up = True
        self._watch(outcome.claims, self._intake.ready)
        self._watch(outcome.settles, self._settler.ready)
        self._watch(outcome.hears, self._subscriptions.ready)
        for _, stream, _ in outcome.waiters:
            self._watch(stream, self._intake.ready)
        self._hand_over(outcome)

    def _hand_over(self, c: Connections) -> None:
        if self.mingle is not None and c.replies is not None:
            self.mingle.heard(c.replies)
        if c.cancelled:
            self.cancelled(c.cancelled)
        unanswered, self._unanswered = self._unanswered, []
        if not c.welcome.dispossessed:
            self._intake.reconcile(unanswered, c.welcome.found)
        else:
            self._intake.reconcile(unanswered, {})
        self._intake.up(c.claims, waiters=c.waiters, registered=c.welcome.keys)
        self._settler.up(c.settles, applied=c.welcome.applied)
        self.pump(lambda: self._subscriptions.up(c.hears, asked=c.asked))
        self._came(c.welcome)
        self.complete()

    # Queues that are added while connected

    def complete(self) -> None:
        """Register the queues that were added, in a thread, and wait on them; only then they are claimed from."""
        if not self.up or self._completing:
            return
        room = MOST_WAITERS - (len(self._streams) - ALWAYS)
        missing = self._intake.unattended[: max(0, room)]
        if missing or self._intake.registered < len(self._intake.keys):
            self._completing, connection = True, self._connection
            self._errands.run(
                lambda: self._register(missing), lambda outcome: self._completed(outcome, connection), name="fastq-dial"
            )

    def _register(self, keys: list[int]) -> Registration:
        opened: list[Stream] = []
        client = self._endpoint.client(timeout_s=self._retries.timeout_s)
        try:
            registered = self._lease.register(client)
            name = f"fastq:{self._lease.me.node}"
            return Registration(registered, [self._open_waiter(key, opened, name) for key in keys])
        except BaseException as error:
            for stream in opened:
                stream.close()
            if isinstance(error, redis.RedisError):
                raise explain(error, address=self._endpoint.addresses[0]) from error
            raise
        finally:
            client.close()

    def _completed(self, outcome: Registration | Exception, connection: int) -> None:
        self._completing = False
        if isinstance(outcome, Exception):
            if not isinstance(outcome, FastqError):
                raise outcome
            if connection == self._connection:
                self.lost(outcome)
            return
        if connection == self._connection and self.up:
            for _, stream, _ in outcome.waiters:
                self._watch(stream, self._intake.ready)
            self._intake.more(outcome.waiters, registered=outcome.keys)
        else:
            for _, stream, _ in outcome.waiters:
                stream.close()
        self.complete()

    # Trying again

    def _not_connected(self, error: Exception) -> None:
        if not isinstance(error, FastqError):
            raise error
        self._tries += 1
        refused = isinstance(error, BrokerRefused) or not isinstance(error, BrokerUnavailable)
        allowed = self._retries.later if self._was_up else self._retries.on_startup
        most = self._retries.most
        if (refused and not self._was_up) or not allowed or (most and self._tries >= most):
            self._failed(error)
            return
        delay_s = self._delay_s()
        of = f"{self._tries}/{most}" if most else f"{self._tries}"
        logger.error("Cannot connect to %s: %s\nTrying again in %.2f seconds... (%s)", self._shown, error, delay_s, of)
        self._timers.set("dial", delay_s, self.dial)

    def _delay_s(self) -> float:
        if not self._was_up:
            return min(START_LAST_S, START_STEP_S * self._tries)
        return float(min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (self._tries - 1)))

    @property
    def _shown(self) -> str:
        return self._endpoint.masked()

    # Streams

    def _watch(self, stream: Stream, ready: Callable[[Stream], None]) -> None:
        fd = stream.fileno()
        self._streams[fd] = (stream, ready)
        self._poller.watch(fd, lambda events: self._ready(fd, events))

    def _ready(self, fd: int, events: int) -> None:
        found = self._streams.get(fd)
        if found is None:
            return
        stream, ready = found
        try:
            if events & select.EPOLLOUT:
                stream.write()
                if not stream.wants_to_write:
                    self._poller.watch(fd, lambda e: self._ready(fd, e))
            if events & ~select.EPOLLOUT:
                ready(stream)
        except (BrokerUnavailable, ValueError) as error:
            self.lost(error)

    def pump(self, *steps: Callable[[], None]) -> None:
        """Run steps that send, and have the loop send what the kernel did not take."""
        for step in steps:
            step()
        for fd, (stream, _) in self._streams.items():
            if stream.wants_to_write:
                self._poller.watch(fd, lambda events, fd=fd: self._ready(fd, events), write=True)  # type: ignore[misc]

    def check(self) -> None:
        """Notice a server that has stopped answering."""
        if self.up and max(self._settler.silent_s, self._subscriptions.silent_s) > DEADLINE_S:
            self.lost(BrokerUnavailable(f"{self._shown} has not answered for {DEADLINE_S:g} seconds"))
        elif self.up:
            self.pump(self._subscriptions.ping)

    def lost(self, error: Exception) -> None:
        """A connection is gone: drop all, and start again."""
        if not self.up:
            return
        logger.warning("Connection to the broker lost: %s. What runs goes on; nothing it holds is lost.", error)
        self._drop()
        self._went()
        self._timers.set("dial", FIRST_RETRY_S, self.dial)

    def _drop(self) -> None:
        self.up = False
        self._unanswered += self._intake.lost()
        self._settler.lost()
        self._subscriptions.lost()
        for fd, (stream, _) in self._streams.items():
            self._poller.forget(fd)
            stream.close()
        self._streams.clear()

    def close(self) -> None:
        """Close everything; may be called twice."""
        self._closed = True
        if self.up:
            self._drop()


class ResultLink:
    """The connection to a result store that is not the broker."""

    def __init__(
        self, endpoint: Endpoint, *, store: ResultStore, poller: Poller, timers: Timers, errands: Errands, node: str
    ) -> None:
        self._endpoint, self._store, self._poller, self._timers = endpoint, store, poller, timers
        self._errands, self._name = errands, f"fastq:{node}"
        self._stream: Stream | None = None
        self._closed = False

    def dial(self) -> None:
        self._errands.run(
            lambda: Stream(self._endpoint.open(4.0, client_name=self._name)), self._connected, name="fastq-dial"
        )

    def _connected(self, outcome: Stream | Exception) -> None:
        if isinstance(outcome, Stream):
            self._stream = outcome
            self._poller.watch(outcome.fileno(), self._ready)
            self.pump(lambda: self._store.up(outcome))
            return
        if not isinstance(outcome, FastqError):
            raise outcome
        logger.error(
            "Cannot connect to the result store: %s. Results wait; trying again in %g s.", outcome, LAST_RETRY_S
        )
        self._again(LAST_RETRY_S)

    def _again(self, delay_s: float) -> None:
        if not self._closed:
            self._timers.set("dial-results", delay_s, self.dial)

    def _ready(self, events: int) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            if events & select.EPOLLOUT:
                stream.write()
            if events & ~select.EPOLLOUT:
                self._store.ready(stream)
            self._watch()
        except (BrokerUnavailable, ValueError) as error:
            self._lost(error)

    def pump(self, step: Callable[[], None] | None = None) -> None:
        """Send what there is."""
        if self._stream is None:
            return
        (step or self._store.pump)()
        self._watch()

    def _watch(self) -> None:
        if self._stream is not None:
            self._poller.watch(self._stream.fileno(), self._ready, write=self._stream.wants_to_write)

    def _lost(self, error: Exception) -> None:
        logger.warning("Connection to the result store lost: %s. Results wait.", error)
        self._drop()
        self._again(FIRST_RETRY_S)

    def _drop(self) -> None:
        if self._stream is not None:
            self._poller.forget(self._stream.fileno())
            self._stream.close()
        self._stream = None
        self._store.lost()

    def close(self) -> None:
        self._closed = True
        self._drop()
