"""Make the parts of an engine from what is known of the application, and tie them together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Sequence
from typing import Literal

import msgspec

from fastq import _core
from fastq.errors import FastqError
from fastq.ipc.segment import SharedSegment
from fastq.program import ProgramInfo, ResultInfo, TaskInfo, Verdict
from fastq.transport.connect import Endpoint
from fastq.transport.redis.binding import Binding
from fastq.transport.redis.keys import Keys
from fastq.transport.redis.registry import describe_process
from fastq.transport.urls import Address
from fastq.worker.broker import Broker, ResultLink, Retries
from fastq.worker.cluster.lease import Janitor, Lease, Welcome
from fastq.worker.cluster.pulse import Pulse
from fastq.worker.cluster.subscriptions import Subscriptions
from fastq.worker.pipeline.admit import Admission
from fastq.worker.pipeline.deal import Dealer
from fastq.worker.pipeline.intake import Intake, QueueKey
from fastq.worker.pipeline.order import Turns
from fastq.worker.pipeline.rate import Buckets, interval_s, plain_names
from fastq.worker.pipeline.settle import ResultStore, Settler
from fastq.worker.pipeline.waiting import Waiting
from fastq.worker.poll import Errands, Poller, Timers
from fastq.worker.processes.children import Child, Children
from fastq.worker.processes.timeouts import TimeLimits

logger = logging.getLogger(__name__)

#: kombu's default of `visibility_timeout`, in seconds: what stock workers hold longer is restored.
VISIBILITY_TIMEOUT_S = 3600.0


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """What everything waits with."""

    poller: Poller
    timers: Timers
    errands: Errands


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """What the parts ask of the engine, and tell it."""

    credit: Callable[[], int]
    round_trip: Callable[[float], None]
    fork: Callable[[int], object]
    #: Whether names of tasks that nobody knows may soon be known.
    expecting: Callable[[], bool]
    #: Has a signal of the application's main process sent.
    notify: Callable[[str, dict[str, object]], None]
    collect: Callable[[], None]
    lost_child: Callable[[Child, Verdict], None]
    broker_came: Callable[[Welcome], None]
    broker_went: Callable[[], None]
    failed: Callable[[FastqError], None]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """All of them."""

    ledger: _core.Ledger
    dealer: Dealer
    intake: Intake
    admission: Admission
    waiting: Waiting
    settler: Settler
    children: Children
    limits: TimeLimits
    endpoint: Endpoint
    lease: Lease
    janitor: Janitor
    #: Channels of the broker that are listened to: remote control, events of other workers, broadcasts.
    subscriptions: Subscriptions
    broker: Broker
    pulse: Pulse
    results: ResultStore | None
    result_link: ResultLink | None


def assemble(program: ProgramInfo, *, worker: str, segment: SharedSegment, loop: Loop, hooks: Hooks) -> Parts:
    """Every part, ready to start. Raises SettingError or UrlError for settings that cannot be used."""
    keys = Keys.from_options(program.transport_options)
    endpoint = Endpoint.parse(
        program.broker_urls, transport_options=program.transport_options, use_ssl=program.broker_use_ssl
    )
    logs_received = logger.isEnabledFor(logging.INFO)
    ledger = make_ledger(segment, program.tasks, limited=rate_limits(program))
    ledger.log_received = [] if logs_received else None
    queue_keys = make_queue_keys(keys, program, worker)
    intake = make_intake(ledger, program, queue_keys, loop=loop, hooks=hooks)
    admission = Admission(
        ledger,
        tasks=program.tasks,
        side_prefix=segment.path,
        undecodable_key=lambda key: keys.undecodable(queue_keys[key].queue).encode(),
        log_received=logs_received,
        expecting=hooks.expecting,
        buckets=Buckets(rate_limits(program)),
    )
    children = Children(
        segment,
        ledger,
        poller=loop.poller,
        timers=loop.timers,
        fork=hooks.fork,
        collect=hooks.collect,
        lost=hooks.lost_child,
        name=admission.name,
    )
    me = describe_process(
        worker,
        node=program.node,
        keys=[key.key.decode()[len(keys.prefix) :] for key in queue_keys],
        segment=str(segment.path),
    )
    lease = Lease(me, keys=keys, bindings=bindings(program))
    settler = Settler(ledger, stamp_key=keys.flush(worker), timers=loop.timers)
    subscriptions = Subscriptions()
    results, result_link = make_results(ledger, program, endpoint, loop=loop)
    return Parts(
        ledger=ledger,
        dealer=Dealer(ledger, multiplier=program.prefetch_multiplier, disable_prefetch=program.disable_prefetch),
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
        limits=TimeLimits(ledger, children=children, timers=loop.timers, expired=children.kill, name=admission.name),
        endpoint=endpoint,
        lease=lease,
        janitor=make_janitor(endpoint, keys, program),
        subscriptions=subscriptions,
        broker=make_broker(
            endpoint,
            program,
            lease=lease,
            intake=intake,
            settler=settler,
            subscriptions=subscriptions,
            loop=loop,
            hooks=hooks,
        ),
        pulse=Pulse(program.heartbeat_signal_s, timers=loop.timers, notify=hooks.notify),
        results=results,
        result_link=result_link,
    )


def make_intake(
    ledger: _core.Ledger, program: ProgramInfo, keys: Sequence[QueueKey], *, loop: Loop, hooks: Hooks
) -> Intake:
    strategy = program.transport_options.get("queue_order_strategy") or "round_robin"
    return Intake(
        ledger,
        keys=keys,
        order=Turns([(key.queue, key.step) for key in keys], strategy=strategy),
        timers=loop.timers,
        credit=hooks.credit,
        round_trip=hooks.round_trip,
    )


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


def make_janitor(endpoint: Endpoint, keys: Keys, program: ProgramInfo) -> Janitor:
    options = program.transport_options
    return Janitor(
        endpoint,
        keys=keys,
        visibility_timeout_s=float(options.get("visibility_timeout") or VISIBILITY_TIMEOUT_S),
        restore_limit=options.get("unacked_restore_limit"),
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
    """Where Celery's own backend would connect to: its parameters, which settings may have changed, not its URL."""
    options = results.options
    given = {name: options[name] for name in ("host", "port", "path", "username", "password") if options.get(name)}
    if hosts := options.get("hosts"):
        given["sentinels"] = tuple((host["host"], int(host["port"])) for host in hosts)
    kind: Literal["tcp", "unix", "sentinel"] = "sentinel" if hosts else "unix" if options.get("path") else "tcp"
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")} if options.get("ssl") else None
    address = Address(kind=kind, db=int(options.get("db") or 0), tls=tls, **given)
    return Endpoint([address], options=results.transport_options)


def rate_limits(program: ProgramInfo) -> dict[int, float]:
    """Seconds between two starts, of the tasks that have a rate limit, by number."""
    if program.disable_rate_limits:
        return {}
    return {number: every_s for number, task in enumerate(program.tasks) if (every_s := interval_s(task.rate_limit))}


def make_ledger(segment: SharedSegment, tasks: Sequence[TaskInfo], *, limited: Container[int] = ()) -> _core.Ledger:
    return _core.Ledger(
        segment.core,
        plain_names(tasks, limited=limited),
        [task.acks_late for task in tasks],
        [(task.soft_time_limit or 0.0, task.time_limit or 0.0) for task in tasks],
    )


def make_queue_keys(keys: Keys, program: ProgramInfo, worker: str) -> list[QueueKey]:
    """Every list to read: each queue at each priority step."""
    made = []
    for queue in program.queues:
        for step, key in zip(keys.priority_steps, keys.queue_keys(queue.name), strict=True):
            claims = keys.claim(key, worker, number=0).removesuffix("0")
            made.append(
                QueueKey(
                    queue=queue.name,
                    step=step,
                    key=keys.waiting(key).encode(),
                    claim_prefix=claims.encode(),
                    index=keys.claims(key, worker).encode(),
                )
            )
    return made


def bindings(program: ProgramInfo) -> list[Binding]:
    """What kombu would declare for the queues."""
    return [
        Binding(q.exchange, q.exchange_type, q.routing_key, q.name)  # type: ignore[arg-type]
        for q in program.queues
        if q.exchange and q.exchange_type in ("direct", "topic")
    ]
