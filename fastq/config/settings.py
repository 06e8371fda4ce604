"""Every setting of a worker, declared once: type, default, unit, meaning, flags, environment, Celery's name.

The fields of `WorkerOptions` carry their declaration. The command line, the reports at start and the mapping to an
application's own settings are made from `SETTINGS`; nothing about an option is written down a second time.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from fastq.config import nodename, values
from fastq.config.declare import BEAT, DAEMON, FEATURES, GLOBAL, POOL, QUEUES, WORKER, Setting, declare


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asked of this worker. None and () mean: not given, the application decides.

    It travels to the nursery as MessagePack, so it holds plain values only.
    """

    # ------------------------------------------------------------------ global

    app: Annotated[
        str | None,
        declare(
            "-A",
            "--app",
            group=GLOBAL,
            read=str,
            bare_variables=("APP",),
            doc="The application, native or Celery's: module, module:attribute, or a package with `app`, `celery` or a "
            "module `celery`.",
        ),
    ] = None
    broker: Annotated[
        str | None,
        declare(
            "-b",
            "--broker",
            group=GLOBAL,
            read=str,
            celery="broker_url",
            bare_variables=("BROKER_URL",),
            doc="URL of the broker, instead of the application's.",
        ),
    ] = None
    result_backend: Annotated[
        str | None,
        declare(
            "--result-backend",
            group=GLOBAL,
            read=str,
            celery="result_backend",
            bare_variables=("RESULT_BACKEND",),
            doc="URL of the result store, instead of the application's.",
        ),
    ] = None
    loader: Annotated[
        str | None,
        declare(
            "--loader",
            group=GLOBAL,
            read=str,
            bare_variables=("LOADER",),
            doc="The loader class, of a Celery application.",
        ),
    ] = None
    config: Annotated[
        str | None,
        declare(
            "--config",
            group=GLOBAL,
            read=str,
            bare_variables=("CONFIG_MODULE",),
            doc="Module with the configuration, for the default loader of a Celery application.",
        ),
    ] = None
    workdir: Annotated[
        str | None,
        declare("--workdir", group=GLOBAL, read=str, doc="Change to this directory first."),
    ] = None
    no_color: Annotated[
        bool,
        declare(
            "-C",
            "--no-color",
            group=GLOBAL,
            bare_variables=("NO_COLOR",),
            doc="No colours in the log and in the banner.",
        ),
    ] = False
    quiet: Annotated[bool, declare("-q", "--quiet", group=GLOBAL, doc="No banner.")] = False
    skip_checks: Annotated[
        bool,
        declare(
            "--skip-checks", group=GLOBAL, bare_variables=("SKIP_CHECKS",), doc="Skip Django's system checks at start."
        ),
    ] = False

    # ------------------------------------------------------------------ worker

    hostname: Annotated[
        str,
        declare(
            "-n",
            "--hostname",
            group=WORKER,
            read=nodename.checked,
            doc="Name of this worker, such as w1@%h. %h is the host, %d its domain, %n its name without the domain.",
        ),
    ] = "celery@%h"
    detach: Annotated[
        bool,
        declare(
            "-D",
            "--detach",
            group=WORKER,
            doc="Start the worker in the background.",
        ),
    ] = False
    statedb: Annotated[
        str | None,
        declare(
            "-S",
            "--statedb",
            group=WORKER,
            read=str,
            celery="worker_state_db",
            doc="File that keeps the ids of revoked tasks over restarts. Only for Celery applications.",
        ),
    ] = None
    loglevel: Annotated[
        str,
        declare(
            "-l",
            "--loglevel",
            group=WORKER,
            read=values.loglevel,
            doc="Least level that is logged: DEBUG, INFO, WARNING, ERROR, CRITICAL, FATAL, or a number.",
        ),
    ] = "WARNING"
    optimization: Annotated[
        str,
        declare(
            "-O",
            "--optimization",
            group=WORKER,
            read=values.optimization,
            doc="`default`, or `fair`: deal a message only to a child that is free.",
        ),
    ] = "default"
    prefetch_multiplier: Annotated[
        int | None,
        declare(
            "--prefetch-multiplier",
            group=WORKER,
            read=values.prefetch,
            unit="messages per child",
            celery="worker_prefetch_multiplier",
            doc="Messages held per child. 0, or not given: the application's setting.",
        ),
    ] = None
    disable_prefetch: Annotated[
        bool | None,
        declare(
            "--disable-prefetch",
            group=WORKER,
            celery="worker_disable_prefetch",
            doc="Claim a message only when a child is free.",
        ),
    ] = None

    # ------------------------------------------------------------------ pool

    concurrency: Annotated[
        int | str | None,
        declare(
            "-c",
            "--concurrency",
            group=POOL,
            read=values.concurrency,
            unit="children",
            celery="worker_concurrency",
            doc="Children that run tasks, or `auto`: what CPU affinity, the cgroup's quota and memory allow, now and "
            "later. Default: the number of CPUs.",
        ),
    ] = None
    pool: Annotated[
        str | None,
        declare(
            "-P",
            "--pool",
            group=POOL,
            read=values.pool,
            celery="worker_pool",
            doc="`prefork`; `processes` is the same.",
        ),
    ] = None
    task_events: Annotated[
        bool | None,
        declare(
            "-E",
            "--task-events",
            "--events",
            group=POOL,
            celery="worker_send_task_events",
            doc="Send an event at each step of a task, for monitors.",
        ),
    ] = None
    time_limit: Annotated[
        float | None,
        declare(
            "--time-limit",
            group=POOL,
            read=values.seconds,
            unit="seconds",
            celery="task_time_limit",
            doc="Kill a task that runs longer; a coroutine is cancelled.",
        ),
    ] = None
    soft_time_limit: Annotated[
        float | None,
        declare(
            "--soft-time-limit",
            group=POOL,
            read=values.seconds,
            unit="seconds",
            celery="task_soft_time_limit",
            doc="Raise SoftTimeLimitExceeded in a task that runs longer.",
        ),
    ] = None
    http: Annotated[
        values.Listen | None,
        declare(
            "--http",
            group=WORKER,
            read=values.listen,
            own=True,
            doc="Serve probes, metrics and status at this address, such as 127.0.0.1:8080 or unix:/run/fastq.sock.",
        ),
    ] = None
    log_format: Annotated[
        str,
        declare(
            "--log-format",
            group=WORKER,
            read=values.log_lines,
            own=True,
            doc="Write the log as `text`, or as `json`, one object a line.",
        ),
    ] = "text"
    shutdown_timeout: Annotated[
        float | None,
        declare(
            "--shutdown-timeout",
            group=WORKER,
            read=values.seconds,
            unit="seconds",
            doc="End tasks that still run so long after TERM or INT; late acknowledged ones go back to their queues. "
            "Without it a worker waits as long as they run.",
        ),
    ] = None
    control_timeout: Annotated[
        float,
        declare(
            "--control-timeout",
            group=WORKER,
            read=values.seconds,
            unit="seconds",
            doc="The longest that a remote-control command of the application may take; its process is killed then.",
        ),
    ] = 30.0
    reload: Annotated[
        bool,
        declare(
            "--reload",
            group=WORKER,
            doc="For development: load the application again when a Python file below the current directory changes.",
        ),
    ] = False
    max_tasks_per_child: Annotated[
        int | None,
        declare(
            "--max-tasks-per-child",
            group=POOL,
            read=values.whole,
            unit="tasks",
            celery="worker_max_tasks_per_child",
            doc="Replace a child after it ran so many tasks.",
        ),
    ] = None
    coroutines: Annotated[
        int | None,
        declare(
            "--coroutines",
            group=POOL,
            read=values.whole,
            unit="tasks",
            own=True,
            doc="How many tasks a child of an application with coroutines has in flight at most. Default: what the "
            "application says.",
        ),
    ] = None
    max_memory_per_child: Annotated[
        int | None,
        declare(
            "--max-memory-per-child",
            group=POOL,
            read=values.whole,
            unit="KiB",
            celery="worker_max_memory_per_child",
            doc="Replace a child whose own memory (what it shares with the others is not counted) is above this, after "
            "the task that it runs.",
        ),
    ] = None
    max_memory_hard: Annotated[
        int | None,
        declare(
            "--max-memory-hard",
            group=POOL,
            read=values.whole,
            unit="KiB",
            doc="Raise MemoryLimitExceeded, a MemoryError, in a task whose child has more memory of its own than this; "
            "kill the child if that does not help.",
        ),
    ] = None
    max_age_per_child: Annotated[
        float | None,
        declare(
            "--max-age-per-child",
            group=POOL,
            read=values.seconds,
            unit="seconds",
            doc="Replace a child that is older, after the task that it runs.",
        ),
    ] = None
    max_crashes: Annotated[
        int,
        declare(
            "--max-crashes",
            group=POOL,
            read=values.whole,
            unit="crashes",
            doc="Put a message aside, for `fastq dlq`, when running it has ended its process so many times, where it "
            "would be delivered again. 0: never.",
        ),
    ] = 3
    dead_letter: Annotated[
        tuple[str, ...],
        declare(
            "--dead-letter",
            group=POOL,
            read=values.dead_letters,
            doc="Put more messages aside, for `fastq dlq`: of tasks that have used up their `retries`, of `unknown` "
            "tasks, `undecodable` ones. With commas between.",
        ),
    ] = ()
    pool_start_method: Annotated[
        str | None,
        declare(
            "--pool-start-method",
            group=POOL,
            read=values.start_method,
            celery="worker_pool_start_method",
            not_yet="children are forked from a process that has no threads and no connections",
            harmless=("fork",),
            doc="`fork`, or `spawn`.",
        ),
    ] = None

    # ------------------------------------------------------------------ queues

    purge: Annotated[
        bool,
        declare(
            "--purge", "--discard", group=QUEUES, doc="Delete all messages that wait on the worker's queues first."
        ),
    ] = False
    queues: Annotated[
        tuple[str, ...],
        declare(
            "-Q",
            "--queues",
            group=QUEUES,
            read=values.comma_list,
            doc="Queues to consume, with commas between. Default: all in `task_queues`, or `task_default_queue`; of a "
            "native application without `task_queues` also those of its tasks and routes.",
        ),
    ] = ()
    exclude_queues: Annotated[
        tuple[str, ...],
        declare("-X", "--exclude-queues", group=QUEUES, read=values.comma_list, doc="Queues not to consume."),
    ] = ()
    include: Annotated[
        tuple[str, ...],
        declare("-I", "--include", group=QUEUES, read=values.comma_list, doc="More modules to import."),
    ] = ()

    # ------------------------------------------------------------------ features

    without_gossip: Annotated[
        bool,
        declare("--without-gossip", group=FEATURES, doc="Do not listen to other workers' events."),
    ] = False
    without_mingle: Annotated[
        bool,
        declare("--without-mingle", group=FEATURES, doc="Do not greet other workers at start."),
    ] = False
    without_heartbeat: Annotated[
        bool,
        declare("--without-heartbeat", group=FEATURES, doc="Send no heartbeat events."),
    ] = False
    heartbeat_interval: Annotated[
        int | None,
        declare(
            "--heartbeat-interval",
            group=FEATURES,
            read=values.whole,
            unit="seconds",
            doc="Time between heartbeat events.",
        ),
    ] = None
    autoscale: Annotated[
        tuple[int, int] | str | None,
        declare(
            "--autoscale",
            group=FEATURES,
            read=values.autoscale,
            unit="children",
            doc="Most and fewest children, such as 10,3; or `auto`: as many as there is work, CPU time and memory for.",
        ),
    ] = None

    # ------------------------------------------------------------------ beat

    beat: Annotated[
        bool,
        declare(
            "-B",
            "--beat",
            group=BEAT,
            doc="Run a Celery application's schedule in a process of its own. Workers of native ones do so unasked.",
        ),
    ] = False
    schedule: Annotated[
        str | None,
        declare(
            "-s",
            "--schedule-filename",
            "--schedule",
            group=BEAT,
            read=str,
            celery="beat_schedule_filename",
            variable="SCHEDULE_FILENAME",
            doc="File that keeps the scheduler's last times, of a Celery application.",
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        declare(
            "--scheduler",
            group=BEAT,
            read=str,
            celery="beat_scheduler",
            doc="The scheduler's class, of a Celery application.",
        ),
    ] = None

    without_schedule: Annotated[
        bool,
        declare("--without-schedule", group=BEAT, own=True, doc="Leave a native application's schedule to others."),
    ] = False

    # ------------------------------------------------------------------ daemon

    logfile: Annotated[
        str | None,
        declare(
            "-f",
            "--logfile",
            group=DAEMON,
            read=str,
            celery="worker_logfile",
            doc="File for the log; default: stderr. %n, %h, %d as in --hostname, %i and %I the number of the child.",
        ),
    ] = None
    pidfile: Annotated[
        str | None,
        declare(
            "--pidfile",
            group=DAEMON,
            read=str,
            celery="worker_pidfile",
            doc="File for the process id. A live process in it means: do not start.",
        ),
    ] = None
    uid: Annotated[
        str | None,
        declare(
            "--uid",
            group=DAEMON,
            read=str,
            celery="worker_uid",
            doc="User to change to, by name or number; only root can.",
        ),
    ] = None
    gid: Annotated[
        str | None,
        declare(
            "--gid",
            group=DAEMON,
            read=str,
            celery="worker_gid",
            doc="Group to change to. Default: that of --uid.",
        ),
    ] = None
    umask: Annotated[
        int | None,
        declare(
            "--umask",
            group=DAEMON,
            read=values.umask,
            celery="worker_umask",
            doc="Mask for the permissions of new files, such as 022.",
        ),
    ] = None
    executable: Annotated[
        str | None,
        declare(
            "--executable",
            group=DAEMON,
            read=str,
            celery="worker_executable",
            doc="Python to run the worker with, under --detach.",
        ),
    ] = None

    # ------------------------------------------------------------------ made from the rest of the command line

    #: Settings after `--`, by their new-style name; the values are text still (see `values.override`).
    overrides: dict[str, str] = {}
    #: All arguments from the first option on that is not ours: the application may have added it (`app.user_options`).
    unknown: tuple[str, ...] = ()
    #: Name of each option that was given, and where: `--concurrency`, `environment CELERY_WORKER_CONCURRENCY`.
    given: dict[str, str] = {}


def _declared() -> Mapping[str, Setting]:
    """The declarations that the fields carry, in their order."""
    hints = typing.get_type_hints(WorkerOptions, include_extras=True)
    found = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: facts[0] for name, facts in found.items() if facts and isinstance(facts[0], Setting)}


#: Every setting by the name of its option.
SETTINGS: Mapping[str, Setting] = _declared()

#: What an option is when it is not given.
DEFAULTS: Mapping[str, Any] = msgspec.structs.asdict(WorkerOptions())


def is_global(setting: Setting) -> bool:
    """True for what Celery takes before the sub-command; fastq takes it on either side."""
    return setting.group == GLOBAL


def is_switch(setting: Setting) -> bool:
    return setting.read is None


def variables(name: str) -> tuple[str, ...]:
    """The environment variables of a setting, the first that is set wins: fastq's own, then Celery's in its order."""
    setting = SETTINGS[name]
    scope = "" if is_global(setting) else "WORKER_"
    last = scope + (setting.variable or name.upper())
    celerys = () if setting.own else (*setting.bare_variables, f"CELERY_{last}")
    return (f"FASTQ_{last}", *celerys)


def not_yet_effective(options: WorkerOptions) -> dict[str, str]:
    """Flags that were given and do nothing yet, each with what is the case instead."""
    return {
        options.given[name]: setting.not_yet
        for name, setting in SETTINGS.items()
        if setting.not_yet and name in options.given and getattr(options, name) not in setting.harmless
    }
