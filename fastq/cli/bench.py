"""The command `fastq bench`: how fast one task of an application is on its own Redis, under fastq and under Celery."""

from __future__ import annotations

import difflib
import importlib.util
import math
import shlex
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fastq import clock, log
from fastq.app.find import find_native
from fastq.cli.bench_place import choose, clean, client, read_json
from fastq.cli.gather import flags_given, gather
from fastq.cli.interrupts import interruptible
from fastq.cli.options import GroupedCommand, global_options
from fastq.cli.worker import enter_workdir, export, require_application
from fastq.config.cpus import auto_concurrency
from fastq.config.settings import WorkerOptions
from fastq.errors import FastqError, OptionError, SurroundingsError

if TYPE_CHECKING:
    from fastq.cli.bench_load import Load, Work
    from fastq.cli.bench_place import Place
    from fastq.cli.bench_worker import BenchWorker
    from fastq.program import ProgramInfo

ENGINES = ("fastq", "celery")

#: Part of the time that goes to single calls, and how many there are at most.
CALLS_PART, CALLS = 0.25, 2_000

#: Messages to each child before the clock starts.
WARM_UP = 50

#: Share of all sends that found next to nothing under way, from which on the sender was the limit.
HUNGRY = 0.3


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about one engine."""

    engine: str
    tasks: int
    seconds: float
    rate: float
    failed: int
    #: CPU microseconds per task; of the server, whoever it worked for.
    main_us: float
    children_us: float
    redis_us: float
    #: Shared pages counted once; None if the kernel does not say.
    memory_mib: float | None
    #: From the send to the announcement of the result, one call at a time; None without results.
    calls: int
    p50_ms: float | None
    p99_ms: float | None
    #: Sends found the queue next to empty: the worker could do more.
    sender_was_the_limit: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, the same for each engine."""

    options: WorkerOptions
    work: Any
    #: Whether results tell that a task is done.
    answered: bool
    concurrency: int
    seconds: float
    more: list[str]
    folder: Path


def _bench(
    ctx: click.Context,
    task: str | None,
    args: str,
    kwargs: str,
    seconds: float,
    engine: str,
    children: int | None,
    worker_options: str,
    clean_up: bool,
    as_json: bool,
    **_options: object,
) -> int:
    words = {"args": read_json(args, flag="--args", kind=list), "kwargs": read_json(kwargs, flag="--kwargs", kind=dict)}
    engines = _engines(engine)
    if seconds <= 0:
        raise OptionError(f"--seconds: must be more than 0, got {seconds:g}")
    options = enter_workdir(gather(flags_given(ctx)))
    require_application(options)
    export(options)
    log.setup("ERROR")
    info = describe(options)
    if clean_up:
        return _clean(info)
    if "celery" in engines and find_native(options.app) is not None:
        raise OptionError(f"--engine: {options.app} is a FastQ application, which celery cannot run")
    if task is None:
        raise OptionError("name the task to run, after the options: fastq bench -A proj proj.tasks.add --args '[1, 2]'")
    from fastq.cli.bench_load import Work

    work = Work(task=find_task(task, info), **words)
    with tempfile.TemporaryDirectory(prefix="fastq-bench-") as folder:
        plan = Plan(
            options=options,
            work=work,
            answered=_answers(work, info),
            concurrency=children or auto_concurrency(),
            seconds=seconds,
            more=shlex.split(worker_options),
            folder=Path(folder),
        )
        trials = _run(plan, info, engines)
    text = msgspec.json.format(msgspec.json.encode(trials)).decode() if as_json else _table(plan, trials)
    click.echo(text)
    return 1 if any(trial.failed for trial in trials) else 0


def describe(options: WorkerOptions) -> ProgramInfo:
    """Load the application in this process, as a worker would. Raises ApplicationError or SettingError."""
    from fastq.programs import program_of

    program = program_of(options)
    streams = sys.stdout, sys.stderr
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program.load(options)
        return program.describe()
    finally:
        # Setting up as a worker makes them the log's; here they are for people.
        sys.stdout, sys.stderr = streams


def find_task(name: str, info: ProgramInfo) -> str:
    """The full name of a task, from it or from its last part. Raises OptionError that names what is like it."""
    names = sorted(task.name for task in info.tasks if not task.gone)
    ends = [each for each in names if each.endswith(f".{name}")]
    if name in names or len(ends) == 1:
        return name if name in names else ends[0]
    close = ends or _alike(name, names) or [each for each in names if not each.startswith("celery.")][:3]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise OptionError(f"the application has no task {name!r}{hint}", task=name)


def _alike(name: str, names: list[str]) -> list[str]:
    """Names that may be meant, compared whole and by their last part."""
    last = {each.rpartition(".")[2]: each for each in names}
    found = difflib.get_close_matches(name, names, n=2) or difflib.get_close_matches(name, list(last), n=2)
    return [last.get(each, each) for each in found]


def _engines(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or set(names) - set(ENGINES):
        raise OptionError(f"--engine: must be a comma list of {' and '.join(ENGINES)}, got {text!r}")
    if "celery" in names and importlib.util.find_spec("celery") is None:
        raise OptionError("--engine: celery is not installed here; leave it out, or pip install celery[redis]")
    return names


def _answers(work: Work, info: ProgramInfo) -> bool:
    """Whether the task leaves a result where we hear of it."""
    ignored = any(task.ignore_result for task in info.tasks if task.name == work.task)
    if info.results.kind == "other":
        raise OptionError(
            f"results go to {info.results.shown}, and what is stored there could not be removed again; "
            "name a Redis with --result-backend redis://…, or disabled:// for none"
        )
    return info.results.kind == "redis" and not ignored


def _clean(info: ProgramInfo) -> int:
    place = choose(info)
    count = clean([end for end in (place.broker, place.results) if end is not None])
    click.echo(f"{count} keys of earlier benches removed")
    return 0


# ---------------------------------------------------------------------------- one engine after the other


def _run(plan: Plan, info: ProgramInfo, engines: Sequence[str]) -> list[Trial]:
    try:
        with interruptible():
            return [_tried(plan, choose(info), engine) for engine in engines]
    except KeyboardInterrupt:
        raise click.Abort from None


def _tried(plan: Plan, place: Place, engine: str) -> Trial:
    for name in place.dropped:
        click.echo(f"fastq bench: the worker goes without {name}: it cannot be told on a command line", err=True)
    client(place.broker).close()  # says what is wrong with the broker before anything is started
    try:
        return _measured(plan, place, engine)
    finally:
        # A second Ctrl-C must not keep the keys: what is left to do takes a moment.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        place.clear()
        signal.signal(signal.SIGINT, before)


def _measured(plan: Plan, place: Place, engine: str) -> Trial:
    from fastq.cli.bench_load import Load
    from fastq.cli.bench_worker import BenchWorker

    worker = BenchWorker(
        engine,
        app=plan.options.app,
        concurrency=plan.concurrency,
        overrides=place.overrides,
        more=plan.more,
        folder=plan.folder,
    )
    try:
        with worker, Load(place, plan.work, answered=plan.answered) as load:
            return _tasks_and_calls(plan, load, worker)
    except Exception as error:
        raise _explained(error, place, worker) from error


def _tasks_and_calls(plan: Plan, load: Load, worker: BenchWorker) -> Trial:
    load.send(WARM_UP * plan.concurrency)
    load.until(0, check=worker.check)
    trial = _loaded(plan, load, worker)
    load.drop(check=worker.check)
    return _called(plan, trial, load, worker) if plan.answered else trial


def _explained(error: Exception, place: Place, worker: BenchWorker) -> Exception:
    import redis

    if isinstance(error, redis.RedisError):
        return place.broker.explain(error)  # type: ignore[no-any-return]
    if isinstance(error, SurroundingsError) and worker.log and worker.log not in error.message:
        return SurroundingsError(f"{error.message}; the worker's log:\n{worker.log}")
    return error if isinstance(error, FastqError) else SurroundingsError(f"{type(error).__name__}: {error}")


def _loaded(plan: Plan, load: Load, worker: BenchWorker) -> Trial:
    """Keep the worker busy, and count."""
    failed, sent, sends, hungry = load.failed, load.sent, 0, 0
    before, server_s, began = worker.cost(), load.redis_cpu_s(), clock.monotonic()
    end, rate = began + plan.seconds * (1 - CALLS_PART if plan.answered else 1), 0.0
    while (now := clock.monotonic()) < end:
        under_way = load.under_way()
        done = load.sent - sent - under_way
        rate = done / (now - began) if now > began else 0.0
        room = load.limit(rate) - under_way
        if room > 0:
            hungry += under_way * 10 < load.limit(rate)
            sends += 1
            load.send(min(room, 500))
        load.hear(0.0 if room > 500 else 0.02)
        worker.check()
    seconds = clock.monotonic() - began
    done, after = load.sent - sent - load.under_way(), worker.cost()
    if not done:
        raise SurroundingsError(f"no task was done in {seconds:.0f} s; give it more --seconds")
    return Trial(
        engine=worker.engine,
        tasks=done,
        seconds=seconds,
        rate=done / seconds,
        failed=load.failed - failed,
        main_us=(after.main_s - before.main_s) / done * 1e6,
        children_us=(after.children_s - before.children_s) / done * 1e6,
        redis_us=(load.redis_cpu_s() - server_s) / done * 1e6,
        memory_mib=worker.memory_mib(),
        calls=0,
        p50_ms=None,
        p99_ms=None,
        sender_was_the_limit=hungry > HUNGRY * max(1, sends),
    )


def _called(plan: Plan, trial: Trial, load: Load, worker: BenchWorker) -> Trial:
    """One call at a time: send, and wait for the result."""
    end = clock.monotonic() + plan.seconds * CALLS_PART
    taken_ms: list[float] = []
    while len(taken_ms) < CALLS and (not taken_ms or clock.monotonic() < end):
        began = clock.monotonic()
        load.send(1)
        while load.under_way():
            worker.check()
            load.hear(0.5)
        taken_ms.append((clock.monotonic() - began) * 1e3)
    taken_ms.sort()
    return msgspec.structs.replace(
        trial,
        calls=len(taken_ms),
        p50_ms=taken_ms[len(taken_ms) // 2],
        p99_ms=taken_ms[min(len(taken_ms) - 1, len(taken_ms) * 99 // 100)],
    )


# ---------------------------------------------------------------------------- as text


def _table(plan: Plan, trials: Sequence[Trial]) -> str:
    work = plan.work
    head = f"{work.task}  args {work.args}  kwargs {work.kwargs}  {plan.concurrency} children, {plan.seconds:g} s each"
    rows = [
        ("", *(trial.engine for trial in trials)),
        ("tasks/s", *(f"{trial.rate:,.0f}" for trial in trials)),
        ("one call, p50", *(_ms(trial.p50_ms) for trial in trials)),
        ("one call, p99", *(_ms(trial.p99_ms) for trial in trials)),
        ("CPU per task: main process", *(f"{trial.main_us:,.1f} us" for trial in trials)),
        ("CPU per task: children", *(f"{trial.children_us:,.1f} us" for trial in trials)),
        ("CPU per task: Redis, for everybody", *(_us(trial.redis_us) for trial in trials)),
        ("memory (PSS)", *("?" if t.memory_mib is None else f"{t.memory_mib:,.0f} MiB" for t in trials)),
        ("tasks done", *(f"{trial.tasks:,}" for trial in trials)),
        ("failed", *(f"{trial.failed:,}" if plan.answered else "?" for trial in trials)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([head, "", *lines, *_remarks(plan, trials)])


def _remarks(plan: Plan, trials: Sequence[Trial]) -> Iterator[str]:
    if len(trials) > 1 and trials[1].rate:
        yield f"\n{trials[0].engine} does {trials[0].rate / trials[1].rate:,.1f} times as many as {trials[1].engine}."
    for trial in trials:
        if trial.sender_was_the_limit:
            yield f"\n{trial.engine}: the queue was often next to empty: the sender was the limit, not the worker."
    if not plan.answered:
        yield "\nThe task stores no result on Redis, so there is no time of a call, and failures are not known."


def _us(value: float) -> str:
    return f"{value:,.1f} us" if math.isfinite(value) else "?"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f} ms"


command: GroupedCommand = GroupedCommand(
    "bench",
    callback=click.pass_context(_bench),
    params=[
        click.Argument(["task"], required=False),
        click.Option(["args", "--args"], default="[]", metavar="<JSON>", help="Arguments, as a JSON list."),
        click.Option(["kwargs", "--kwargs"], default="{}", metavar="<JSON>", help="Named arguments, as a JSON object."),
        click.Option(["seconds", "--seconds"], type=float, default=30.0, show_default=True, help="For each engine."),
        click.Option(
            ["engine", "--engine"], default="fastq", show_default=True, help="fastq, celery, or both: fastq,celery."
        ),
        click.Option(["children", "-c", "--concurrency"], type=click.IntRange(min=1), help="Children (one per CPU)."),
        click.Option(
            ["worker_options", "--worker-options"],
            default="",
            metavar="<words>",
            help="More options for the worker, in one word, such as '-O fair'.",
        ),
        click.Option(["clean_up", "--clean"], is_flag=True, help="Remove what benches left that were killed; end."),
        click.Option(["as_json", "--json"], is_flag=True, help="Print the figures as JSON."),
        *global_options(),
    ],
    help="Run a task of the application again and again on the application's own Redis, and print tasks per second, "
    "times of calls, CPU time by role and memory. The task is really run. Its queue, results and all other keys have a "
    "prefix of their own and are removed at the end; no other key is touched. Exit code 1 if tasks failed.",
)
