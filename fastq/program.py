"""The port to user code: what engine, nursery and children may know of an application, and what they ask of it.

The structs travel from the nursery to the engine as MessagePack, so they hold plain values only. `Program` is the
interface behind which an application lives; it is loaded in the nursery and used again, after the fork, in children.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, Protocol

import msgspec

from fastq.config.identity import Identity
from fastq.config.settings import WorkerOptions
from fastq.wire.deadletter import Death


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine knows of one task. Its position in `ProgramInfo.tasks` is its number in frames."""

    name: str
    acks_late: bool = False
    ignore_result: bool = False
    #: Seconds, None for no limit. The worker-wide limits are already in here.
    soft_time_limit: float | None = None
    time_limit: float | None = None
    #: Whether a message comes back when its process is lost, or when its time limit is over.
    returns_if_lost: bool = False
    returns_if_late: bool = False
    #: "100/m" and the like; None for no limit.
    rate_limit: str | None = None
    #: False for tasks whose messages are not reported to monitors.
    send_events: bool = True
    #: It was there before a reload, and is not any more: only its number is taken.
    gone: bool = False


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One queue that this worker consumes, in the order of the application."""

    name: str
    exchange: str = ""
    exchange_type: str = "direct"
    routing_key: str = ""
    #: All that the application says of it, as `inspect active_queues` shows it.
    details: dict[str, Any] = {}
    #: Further bindings: (exchange, its type, routing key).
    bindings: list[tuple[str, str, str]] = []

    @property
    def bound(self) -> list[tuple[str, str, str]]:
        """All bindings."""
        return (
            [(self.exchange, self.exchange_type, self.routing_key), *self.bindings] if self.exchange else self.bindings
        )

    @property
    def fanouts(self) -> list[tuple[str, str]]:
        """(exchange, routing key) of those by which messages are published instead of queued."""
        return [(exchange, key) for exchange, kind, key in self.bound if kind == "fanout"]


class ControlInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How this worker is asked and told by remote control."""

    enabled: bool = True
    #: `control_exchange`; the channel is named after it.
    exchange: str = "celery"
    #: Of replies: `task_serializer`.
    serializer: str = "json"
    #: Content types of requests that may be opened.
    accept: list[str] = msgspec.field(default_factory=lambda: ["application/json"])
    #: Commands that the application registered itself, their aliases, and commands of Celery's that it replaced.
    commands: list[str] = []
    #: Seconds that a command of the application may take (`--control-timeout`).
    timeout_s: float = 30.0


class ResultInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where results go. "redis": as RESP commands through the ring, the engine sends them to `url`."""

    kind: Literal["redis", "other", "disabled"] = "disabled"
    url: str = ""
    #: As the banner shows it, without passwords.
    shown: str = ""
    #: Keyword arguments of redis.Redis that the application has set (`redis_*` settings).
    options: dict[str, Any] = {}
    #: `result_backend_transport_options`, for Sentinel's master name.
    transport_options: dict[str, Any] = {}


class EventsInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What monitors and other workers are told, and how."""

    #: Events of tasks from the start (`-E`).
    tasks: bool = False
    #: Seconds between heartbeats; None: there are none.
    heartbeat_s: float | None = 2.0
    #: Listen to other workers; greet them at start.
    gossip: bool = True
    mingle: bool = True
    exchange: str = "celeryev"
    serializer: str = "json"
    #: The zone in which events say times of messages.
    timezone: str = "UTC"
    #: What heartbeats call the software: sw_ident, sw_ver, sw_sys.
    software: dict[str, str] = {}


class ProgramInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An application as the engine sees it, with all options and settings applied."""

    #: What the banner calls it.
    app_name: str
    loader: str
    #: The expanded node name, such as celery@host.
    node: str
    #: Version of what runs the tasks, for the banner.
    version: str = ""

    broker_urls: list[str] = []
    broker_shown: str = ""
    broker_failover_strategy: str = "round-robin"
    transport_options: dict[str, Any] = {}
    #: Keyword arguments for TLS (with CERT_* as numbers), True for the defaults, or None.
    broker_use_ssl: dict[str, Any] | bool | None = None
    broker_connection_retry: bool = True
    broker_connection_retry_on_startup: bool = True
    #: None: try for ever.
    broker_connection_max_retries: int | None = 100
    broker_connection_timeout_s: float | None = 4.0

    #: What is consumed at the start.
    queues: list[QueueInfo] = []
    #: Every queue that the application declares, consumed or not.
    declared: list[QueueInfo] = []
    tasks: list[TaskInfo] = []
    results: ResultInfo = ResultInfo()
    control: ControlInfo = ControlInfo()
    #: What `inspect stats` says of the broker; no password in it.
    broker_facts: dict[str, Any] = {}

    concurrency: int = 1
    #: `worker_concurrency` is "auto".
    concurrency_auto: bool = False
    #: 0: no limit.
    prefetch_multiplier: int = 4
    disable_prefetch: bool = False
    disable_rate_limits: bool = False
    pool_restarts: bool = False
    #: File that keeps revoked ids over restarts, and those that it held.
    state_db: str | None = None
    revoked: list[str] = []
    eta_task_limit: int | None = None
    max_tasks_per_child: int | None = None
    #: Tasks that one child may have in flight, in an event loop; 0: it runs one at a time, without one.
    coroutines: int = 0
    max_memory_per_child_kib: int | None = None
    soft_time_limit: float | None = None
    time_limit: float | None = None

    soft_shutdown_timeout_s: float = 0.0
    soft_shutdown_on_idle: bool = False

    #: What the application decides about the process, where no option does: whom the nursery has become, the file mask.
    identity: Identity = Identity()
    umask: int | None = None
    pidfile: str | None = None
    #: The local zone that the application has set for its process (Django does); "" for that of the host.
    local_zone: str = ""

    log_format: str = ""
    #: Celery's `worker_log_datefmt` and `worker_log_color`.
    log_datefmt: str | None = None
    log_color: bool | None = None
    task_log_format: str = ""
    loglevel: int = 30
    logfile: str | None = None
    hijack_root_logger: bool = True
    #: True if the application sets up logging itself (a receiver of `setup_logging`).
    custom_logging: bool = False
    redirect_stdouts: bool = True
    redirect_stdouts_level: str = "WARNING"

    enable_utc: bool = True
    timezone: str = "UTC"
    events: EventsInfo = EventsInfo()
    #: Whether this worker runs the application's schedule.
    beat: bool = False
    #: Names of the tasks of which only so many may run at once (see `transport.redis.slots`).
    slots: list[str] = []
    #: Seconds between heartbeats that the application wants to hear of; None if nobody listens.
    heartbeat_signal_s: float | None = None

    #: One line each, for the engine's log.
    warnings: list[str] = []


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine had to end a task, for a child that tells the result store and the application.

    lost        its child is gone: `reason` is Celery's text
    timeout     the hard time limit of `limit_s` seconds is over
    unknown     nobody registered its name
    invalid     it is a message that no worker can run, for `reason`
    expired     its time was over before it was started
    revoked     somebody revoked it before it was started
    cancelled   it was killed because the worker was stopped and not to wait
    poison      it has ended too many processes, which are `deaths`; it is put aside, or (`put_aside`) has been
    terminated  somebody revoked it while it ran, and had it ended by `signal_number`
    """

    kind: Literal["lost", "timeout", "unknown", "invalid", "expired", "revoked", "cancelled", "poison", "terminated"]
    reason: str = ""
    #: The hard time limit, for "timeout".
    limit_s: float = 0.0
    #: Whether a child had started it.
    started: bool = False
    pid: int = 0
    #: For "terminated".
    signal_number: int = 0
    #: Index in `ProgramInfo.tasks`, None for a name that nobody registered.
    task: int | None = None
    deaths: tuple[Death, ...] = ()
    put_aside: bool = False
    #: How many children have died while they carried it out.
    tries: int = 0


_decode_verdict = msgspec.msgpack.Decoder(Verdict).decode


def split_verdict(payload: bytes) -> tuple[Verdict, bytes]:
    """A verdict frame's payload: its length in four bytes, the verdict, the envelope."""
    length = int.from_bytes(payload[:4], "little")
    return _decode_verdict(payload[4 : 4 + length]), payload[4 + length :]


def join_verdict(verdict: Verdict, envelope: bytes) -> bytes:
    """The payload of a verdict frame."""
    encoded = msgspec.msgpack.encode(verdict)
    return len(encoded).to_bytes(4, "little") + encoded + envelope


class Question(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the engine cannot answer by itself, for a process beside the children that can.

    command     run the remote-control command `name` with `arguments`, a JSON object
    decode      open the body of an envelope (`data`) that is not JSON; the value is the body as JSON
    encode      write `data`, which is JSON, as a body with the application's serializer; the value is
                {"body", "content-type", "content-encoding"}, the body in base64
    flag        store REVOKED for those of these tasks that nobody has started (`data`: their ids, a JSON array)
    call        send the task of a signature (`data`, JSON)
    """

    kind: Literal["command", "decode", "encode", "flag", "call"]
    name: str = ""
    arguments: bytes = b"{}"
    data: bytes = b""
    #: What the engine knows and a command may ask for: `prefetch_count`, `rate_limits`.
    facts: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer: JSON, and whether the command failed. Then the value is Celery's {"error": text}."""

    value: bytes
    failed: bool = False


class Pen(Protocol):
    """Writes events: `fastq._core.EventPen`."""

    def write(self, kind: bytes, fields: bytes, /) -> bytes: ...


class Door(Protocol):
    """A child's door to the engine: `fastq._core.ChildPort`, or a stand-in for tests."""

    @property
    def kind(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def queue(self) -> bytes: ...
    def payload(self) -> bytes: ...
    def finish(self) -> None: ...
    def outcome(self, outcome: int, commands: int, data: bytes) -> None: ...
    def store(self, commands: int, data: bytes) -> None: ...
    def soft_limit_hits(self) -> bool: ...
    def know_tasks(self, names: list[bytes]) -> None: ...
    def note_end(self, end: int) -> None: ...
    def memory_limit_hits(self) -> bool: ...
    @property
    def telling(self) -> bool: ...
    @property
    def engine_pid(self) -> int: ...
    @property
    def worker(self) -> bytes: ...
    def pen(self, head: Callable[[], bytes], /) -> Pen: ...
    def event(self, data: bytes, *, now: bool = False) -> None: ...


class Hearing(Protocol):
    """What a process knows of the engine's signals; see `fastq.ipc.group`."""

    @property
    def ending(self) -> bool: ...
    def heard(self, number: int, /) -> int: ...


class FrontDoor(Door, Hearing, Protocol):
    """The door of a whole process: `fastq._core.ChildPort`."""


class FlightDoor(Door, Protocol):
    """The door of one task among others: `fastq._core.Flight`."""

    @property
    def number(self) -> int: ...
    @property
    def started_ns(self) -> int: ...
    @property
    def task(self) -> int: ...
    @property
    def expires(self) -> float: ...
    @property
    def limits(self) -> tuple[float, float]: ...
    @property
    def over(self) -> bool: ...
    @property
    def held(self) -> bool: ...
    def hold(self) -> None: ...
    def begin(self) -> None: ...


class Worker(Protocol):
    """Runs one batch of frames without Python in between: `fastq._core.Runner`."""

    @property
    def executed(self) -> int:
        """Tasks executed by this process, verdicts not counted."""

    def work(self) -> int:
        """Run plain tasks until something else is found; says what (see `fastq.child.main`)."""

    def count(self) -> None:
        """One more task has been executed by somebody else."""


class Passenger(Protocol):
    """A task in an event loop, as its child sees it. Whatever ends it ends its frame, once."""

    async def run(self) -> None:
        """Carry it out and end its frame. Raises nothing but CancelledError, which ends no frame."""

    def soften(self) -> bool:
        """Its soft time limit is over, or somebody sent the signal of it: True if the CancelledError that follows will
        be SoftTimeLimitExceeded in the task; False if it ignores that."""

    def condemn(self, verdict: Verdict) -> Coroutine[Any, Any, None] | None:
        """The end of its frame, by its hard limit or because it was revoked. It may still run on for a moment.

        What is returned is to be awaited, and then the frame has ended: callbacks are sent before. None: it has now, or
        it was condemned before.
        """

    @property
    def lingers(self) -> bool:
        """Whether something of it goes on though it was cancelled: a function in a thread."""


class Program(Protocol):
    """An application, as the nursery and its children use it."""

    def load(self, options: WorkerOptions) -> None:
        """Find and import the application, apply the options. Raises ApplicationError or SettingError."""

    def start(self) -> None:
        """Start what the application runs beside its tasks, before there are children. Raises ApplicationError."""

    def describe(self, *, numbered: Sequence[str] = ()) -> ProgramInfo:
        """What the engine may know. The tasks of these names keep their numbers, others come behind."""

    def before_fork(self) -> None:
        """Close what processes must not share, and import what every child needs."""

    def child_init(self, port: FrontDoor, *, number: int) -> None:
        """Make this freshly forked process the child `number` (from 1)."""

    def runner(self, *, max_tasks: int | None = None) -> Worker | None:
        """The compiled runner of plain tasks, if there is one; asked for after `child_init`."""

    def run(self, port: Door) -> None:
        """Carry out the frame that `port` has started, and end it."""

    def child_exit(self, code: int) -> None:
        """Say goodbye to the application: this child is about to end."""

    def remember(self, revoked: list[str]) -> None:
        """Write what is revoked to the state database; what fails is logged."""

    def run_due(self) -> float | None:
        """In the nursery: call what the application has put on a timer. Seconds until the next; None for nothing."""

    def run_schedule(self) -> None:
        """In a process forked for it: send the tasks of the application's schedule, until SIGTERM."""

    def notify(self, signal: str, arguments: dict[str, Any]) -> None:
        """Send a signal of the application's main process."""

    def aside_init(self) -> None:
        """Make this freshly forked process one that answers questions, and runs no tasks."""

    def answer(self, question: Question) -> Reply:
        """Answer one of them. Raises nothing: what goes wrong is in the reply."""


class LoopProgram(Program, Protocol):
    """An application whose children have an event loop: `ProgramInfo.coroutines` is not 0."""

    def fly(self, door: FlightDoor) -> Passenger | None:
        """Begin a frame, instead of `run`; None if it has been carried out and ended at once."""
