"""Make the parts of an engine from what is known of the application, and tie them together."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from fastq import _core, clock
from fastq.config.settings import WorkerOptions
from fastq.config.sources import number_in_environment
from fastq.errors import FastqError
from fastq.ipc.segment import SharedSegment
from fastq.program import ProgramInfo, ResultInfo, Verdict
from fastq.transport.connect import RESULT_STORE, Endpoint
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.registry import describe_process
from fastq.transport.urls import Address, read_urls
from fastq.worker.broker import Broker, ResultLink, Retries
from fastq.worker.cluster.actions import Actions
from fastq.worker.cluster.commands.state import View
from fastq.worker.cluster.consumers import Consumers, bare, bindings, queue_keys
from fastq.worker.cluster.control import Control
from fastq.worker.cluster.events import Counts, Events
from fastq.worker.cluster.gossip import Gossip
from fastq.worker.cluster.lamport import SharedLamport
from fastq.worker.cluster.lease import Janitor, Lease, Welcome
from fastq.worker.cluster.limits import Limits
from fastq.worker.cluster.mingle import Mingle
from fastq.worker.cluster.pulse import Pulse
from fastq.worker.cluster.revoking import Revoking
from fastq.worker.cluster.subscriptions import Subscriptions
from fastq.worker.pipeline.admit import Admission
from fastq.worker.pipeline.broadcast import Broadcasts
from fastq.worker.pipeline.deal import Dealer
from fastq.worker.pipeline.intake import Intake, QueueKey
from fastq.worker.pipeline.order import Turns
from fastq.worker.pipeline.quarantine import Quarantine
from fastq.worker.pipeline.rate import Buckets, interval_s, ledger_tables
from fastq.worker.pipeline.settle import ResultStore, Settler, log_refusals
from fastq.worker.pipeline.waiting import Waiting
from fastq.worker.poll import Errands, Poller, Timers
from fastq.worker.processes.beat import BeatProcess
from fastq.worker.processes.children import Child, Children, Victim
from fastq.worker.processes.desk import Desk
from fastq.worker.processes.gauges import Gauges
from fastq.worker.processes.recycle import ChildLimits, Recycler
from fastq.worker.processes.scaler import Scaler, Wish
from fastq.worker.processes.timeouts import TimeLimits
from fastq.worker.revoked import EXPIRES_S, MOST, Revoked

logger: logging.Logger = logging.getLogger(__name__)

#: kombu's default of `visibility_timeout`, in seconds: what stock workers hold longer is restored.
VISIBILITY_TIMEOUT_S = 3600.0


#: Seconds after a change of what is revoked, in which more may come, until it is written to the state database.
REMEMBER_S = 1.0


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """What everything waits with."""

    poller: Poller
    timers: Timers
    errands: Errands


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """What the parts ask of the engine, and tell it."""

    credit: Callable[[], int]
    round_trip: Callable[[float], None]
    fork: Callable[[int, int | None], object]
    nursery_pid: Callable[[], int]
    #: Whether names of tasks that nobody knows may soon be known.
    expecting: Callable[[], bool]
    #: Has a signal of the application's main process sent.
    notify: Callable[[str, dict[str, object]], None]
    #: Has a process forked that runs no tasks.
    aside: Callable[[int], None]
    #: Has the process forked that runs the schedule.
    beat: Callable[[], None]
    collect: Callable[[], None]
    lost_child: Callable[[Child, Victim, Verdict], None]
    broker_came: Callable[[Welcome], None]
    broker_went: Callable[[], None]
    failed: Callable[[FastqError], None]
    shut_down: Callable[[], None]
    reload: Callable[[], None]
    remember: Callable[[list[str]], None]


@dataclass(kw_only=True, eq=False, repr=False)
class Parts:
    """All of them, each under its own name. An engine is its parts, and moves them."""

    ledger: _core.Ledger
    dealer: Dealer
    intake: Intake
    admission: Admission
    waiting: Waiting
    settler: Settler
    children: Children
    limits: TimeLimits
    recycler: Recycler
    scaler: Scaler
    endpoint: Endpoint
    lease: Lease
    janitor: Janitor
    quarantine: Quarantine
    control: Control
    #: Channels of the broker that are listened to: remote control, events of other workers, broadcasts.
    subscriptions: Subscriptions
    #: The process of --beat.
    beat: BeatProcess
    broadcasts: Broadcasts
    #: What monitors are told.
    events: Events
    broker: Broker
    pulse: Pulse
    actions: Actions
    results: ResultStore | None
    result_link: ResultLink | None


def assemble(
    program: ProgramInfo, *, options: WorkerOptions, worker: str, segment: SharedSegment, loop: Loop, hooks: Hooks
) -> Parts:
    """Every part, ready to start. Raises SettingError or UrlError for settings that cannot be used."""
    keys = Keys.from_options(program.transport_options)
    endpoint = Endpoint.parse(
        in_order(program.broker_urls, strategy=program.broker_failover_strategy),
        transport_options=program.transport_options,
        use_ssl=program.broker_use_ssl,
    )
    logs_received = logger.isEnabledFor(logging.INFO)
    buckets = Buckets(rate_limits(program))
    ledger = _core.Ledger(segment.core, *ledger_tables(program.tasks, limited=buckets))
    ledger.log_received = [] if logs_received else None
    intake = make_intake(ledger, program, make_queue_keys(keys, program, worker), loop=loop, hooks=hooks)
    admission = Admission(
        ledger,
        tasks=program.tasks,
        side_prefix=segment.path,
        dead_key=lambda key: keys.dead(bare_key(intake, key, keys=keys)).encode(),
        node=program.node,
        log_received=logs_received,
        expecting=hooks.expecting,
        buckets=buckets,
        revoked=make_revoked(program),
    )
    broadcasts = Broadcasts(
        ledger, timers=loop.timers, admit=lambda entry, raw, due: admission.admit(entry, raw, due=due)
    )
    admission.keep = broadcasts.park
    children = Children(
        segment,
        ledger,
        poller=loop.poller,
        timers=loop.timers,
        fork=hooks.fork,
        max_tasks=lambda: recycler.max_tasks(),
        berths=lambda: dealer.coroutines,
        collect=hooks.collect,
        lost=hooks.lost_child,
        name=admission.name,
        node=program.node,
    )
    limits = TimeLimits(ledger, children=children, timers=loop.timers, expired=children.kill, name=admission.name)
    dealer = Dealer(ledger, program=program)
    gauges = Gauges()
    recycler = Recycler(
        ChildLimits.of(program, options),
        ledger=ledger,
        children=children,
        gauges=gauges,
        timers=loop.timers,
        pace=dealer.pace,
        name=limits.name,
        failed=hooks.failed,
    )
    scaler = Scaler(
        Wish.of(program, options),
        ledger=ledger,
        children=children,
        gauges=gauges,
        timers=loop.timers,
        pace=dealer.pace,
        backlog=lambda: intake.lengths,
        nursery_pid=hooks.nursery_pid,
    )
    me = describe_process(
        worker,
        node=program.node,
        keys=[bare(key, keys=keys) for key in intake.keys],
        segment=str(segment.path),
    )
    lease = Lease(me, keys=keys, bindings=bindings(program.queues))
    settler = Settler(ledger, stamp_key=keys.flush(worker), timers=loop.timers)
    subscriptions = Subscriptions()
    events = Events(
        ledger,
        segment=segment.core,
        node=program.node,
        info=program.events,
        tasks=program.tasks,
        channel=lambda key: keys.channel(program.events.exchange, key, db=endpoint.db),
        counts=lambda: Counts(
            active=sum(len(ledger.all_running(slot)) for slot in children.slots),
            processed=max(0, ledger.started - admission.judged),
        ),
        settler=settler,
        timers=loop.timers,
    )
    admission.received = events.received
    results, result_link = make_results(ledger, program, endpoint, loop=loop)
    broker = make_broker(
        endpoint,
        program,
        lease=lease,
        intake=intake,
        settler=settler,
        subscriptions=subscriptions,
        loop=loop,
        hooks=hooks,
    )
    consumers = Consumers(
        program,
        worker=worker,
        keys=keys,
        db=endpoint.db,
        intake=intake,
        order=lambda all_keys: make_order(program, all_keys),
        lease=lease,
        broker=broker,
        subscriptions=subscriptions,
        heard=broadcasts.heard,
    )
    desk = Desk(poller=loop.poller, timers=loop.timers, fork=hooks.aside, timeout_s=program.control.timeout_s)
    actions = Actions(
        program,
        children=children,
        limits=Limits(program, ledger=ledger, children=children, admission=admission, broadcasts=broadcasts),
        revoking=Revoking(
            ledger,
            children=children,
            admission=admission,
            desk=desk if program.results.kind != "disabled" else None,
            changed=lambda: remember(program, admission.revoked, loop=loop, hooks=hooks),
        ),
        consumers=consumers,
        stop=hooks.shut_down,
        reload=hooks.reload,
    )
    control = Control(
        program,
        view=View(ledger=ledger, segment=segment.core, children=children, admission=admission, consumers=consumers),
        actions=actions,
        events=events,
        scaler=scaler,
        endpoint=endpoint,
        keys=keys,
        subscriptions=subscriptions,
        desk=desk,
        errands=loop.errands,
    )
    if program.events.gossip:
        gossip = Gossip(
            node=program.node,
            pid=os.getpid(),
            lamport=SharedLamport(segment.core),
            events=events,
            timers=loop.timers,
            ask=control.desk.ask,
        )
        control.state.election = gossip.election
        subscriptions.add(events.channel("worker.*"), gossip.heard)
    broker.cancelled = actions.merge_revoked
    if program.events.mingle:
        broker.mingle = Mingle(
            node=program.node,
            exchange=program.control.exchange,
            keys=keys,
            db=endpoint.db,
            lamport=SharedLamport(segment.core),
            revoked=actions.revoked,
            merge=actions.merge_revoked,
        )
    return Parts(
        ledger=ledger,
        dealer=dealer,
        intake=intake,
        admission=admission,
        waiting=Waiting(
            ledger,
            intake=intake,
            timers=loop.timers,
            admit=lambda entry, raw: admission.admit(entry, raw, due=True),
        ),
        settler=settler,
        children=children,
        limits=limits,
        recycler=recycler,
        scaler=scaler,
        endpoint=endpoint,
        lease=lease,
        janitor=make_janitor(endpoint, keys, program, options, lease=lease),
        quarantine=Quarantine(
            ledger,
            admission=admission,
            endpoint=endpoint,
            keys=keys,
            errands=loop.errands,
            timers=loop.timers,
            max_crashes=options.max_crashes,
            queue_key=lambda key: bare_key(intake, key, keys=keys),
            say=lambda places: say_running(broker, lease, settler, places),
        ),
        control=control,
        subscriptions=subscriptions,
        events=events,
        broadcasts=broadcasts,
        broker=broker,
        actions=actions,
        beat=BeatProcess(wanted=program.beat, poller=loop.poller, timers=loop.timers, fork=hooks.beat),
        pulse=Pulse(program.heartbeat_signal_s, timers=loop.timers, notify=hooks.notify),
        results=results,
        result_link=result_link,
    )


def in_order(urls: Sequence[str], *, strategy: str) -> list[str]:
    """The brokers in the order in which they are tried (`broker_failover_strategy`)."""
    if strategy == "shuffle":
        return sorted(urls, key=lambda _url: clock.random_fraction())
    return list(urls)


def make_revoked(program: ProgramInfo) -> Revoked:
    """What earlier runs have revoked, within Celery's bounds."""
    revoked = Revoked(
        most=number_in_environment("CELERY_WORKER_REVOKES_MAX", int, MOST),
        expires_s=number_in_environment("CELERY_WORKER_REVOKE_EXPIRES", float, EXPIRES_S),
    )
    revoked.add(program.revoked)
    return revoked


def remember(program: ProgramInfo, revoked: Revoked, *, loop: Loop, hooks: Hooks) -> None:
    """Have what is revoked written to the state database soon, if there is one."""
    if program.state_db:
        loop.timers.sooner("remember", REMEMBER_S, lambda: hooks.remember(revoked.ids))


def make_intake(
    ledger: _core.Ledger, program: ProgramInfo, keys: Sequence[QueueKey], *, loop: Loop, hooks: Hooks
) -> Intake:
    return Intake(
        ledger,
        keys=keys,
        order=make_order(program, keys),
        timers=loop.timers,
        credit=hooks.credit,
        round_trip=hooks.round_trip,
    )


def make_order(program: ProgramInfo, keys: Iterable[QueueKey]) -> Turns:
    strategy = program.transport_options.get("queue_order_strategy") or "round_robin"
    return Turns([(key.queue, key.step) for key in keys], strategy=strategy)


def make_broker(
    endpoint: Endpoint,
    program: ProgramInfo,
    *,
    lease: Lease,
    intake: Intake,
    settler: Settler,
    subscriptions: Subscriptions,
    loop: Loop,
    hooks: Hooks,
) -> Broker:
    return Broker(
        endpoint,
        lease=lease,
        intake=intake,
        settler=settler,
        subscriptions=subscriptions,
        poller=loop.poller,
        timers=loop.timers,
        errands=loop.errands,
        retries=Retries(
            on_startup=program.broker_connection_retry_on_startup,
            later=program.broker_connection_retry,
            most=program.broker_connection_max_retries or None,
            timeout_s=program.broker_connection_timeout_s or 4.0,
        ),
        came=hooks.broker_came,
        went=hooks.broker_went,
        failed=hooks.failed,
    )


def say_running(broker: Broker, lease: Lease, settler: Settler, places: Sequence[tuple[int, int, int]]) -> None:
    """Write down what runs, in case this worker does not survive it."""
    if broker.up:
        broker.pump(lambda: settler.ask(*lease.say_running(places), log_refusals))


def bare_key(intake: Intake, number: int, *, keys: Keys) -> str:
    """The queue key of this number, without the prefix."""
    return intake.keys[number].key.decode("utf-8", "surrogateescape").removeprefix(keys.prefix)


def make_janitor(
    endpoint: Endpoint, keys: Keys, program: ProgramInfo, options: WorkerOptions, *, lease: Lease
) -> Janitor:
    transport = program.transport_options
    return Janitor(
        endpoint,
        keys=keys,
        visibility_timeout_s=float(transport.get("visibility_timeout") or VISIBILITY_TIMEOUT_S),
        restore_limit=transport.get("unacked_restore_limit"),
        queue_keys=lambda: lease.me.keys,
        max_crashes=options.max_crashes,
    )


def make_results(
    ledger: _core.Ledger, program: ProgramInfo, broker: Endpoint, *, loop: Loop
) -> tuple[ResultStore | None, ResultLink | None]:
    """The result store's own connection; none where results go to the broker, or don't go through the engine."""
    if program.results.kind != "redis":
        return None, None
    there = result_endpoint(program.results)
    if there == broker:
        return None, None
    store = ResultStore(ledger, timers=loop.timers)
    link = ResultLink(
        there, store=store, poller=loop.poller, timers=loop.timers, errands=loop.errands, node=program.node
    )
    return store, link


def result_endpoint(results: ResultInfo) -> Endpoint:
    """Where Celery's own backend would connect to: its parameters, which settings may have changed, not its URL. A
    native application has an URL and nothing else."""
    options = results.options
    if not options:
        return Endpoint(read_urls(results.url), options=results.transport_options, role=RESULT_STORE)
    given = {name: options[name] for name in ("host", "port", "path", "username", "password") if options.get(name)}
    if hosts := options.get("hosts"):
        given["sentinels"] = tuple((host["host"], int(host["port"])) for host in hosts)
    kind: Literal["tcp", "unix", "sentinel"] = "sentinel" if hosts else "unix" if options.get("path") else "tcp"
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")} if options.get("ssl") else None
    address = Address(kind=kind, db=int(options.get("db") or 0), tls=tls, **given)
    return Endpoint([address], options=results.transport_options, role=RESULT_STORE)


def rate_limits(program: ProgramInfo) -> dict[int, float]:
    """Seconds between two starts, of the tasks that have a rate limit, by number."""
    if program.disable_rate_limits:
        return {}
    return {number: every_s for number, task in enumerate(program.tasks) if (every_s := interval_s(task.rate_limit))}


def make_queue_keys(keys: Keys, program: ProgramInfo, worker: str) -> list[QueueKey]:
    """Every list to read: each queue at each priority step."""
    return [key for queue in program.queues for key in queue_keys(queue, keys=keys, worker=worker)]
