"""The command `fastq doctor`: read an application, and say what will be different, and what is wrong with it."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from fastq import log
from fastq.cli.gather import flags_given, gather
from fastq.cli.options import OpenCommand, global_options, worker_options
from fastq.cli.worker import enter_workdir, export, require_application
from fastq.compat.celery.examine import Origin, TaskView
from fastq.config.settings import WorkerOptions, not_yet_effective
from fastq.errors import FastqError
from fastq.program import ProgramInfo, TaskInfo

if TYPE_CHECKING:
    from fastq.app.app import FastQ
    from fastq.app.task import BaseTask

#: Exit code if something is wrong; what is only different is no fault.
WRONG = 1

Level = Literal["wrong", "differs", "note"]

#: Settings that every application has, and that are looked at by themselves.
_TOLD = frozenset({"broker_url", "broker_read_url", "broker_transport", "result_backend"})

#: Seconds that a server gets to answer.
ASK_S = 4.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to know before the worker is started."""

    level: Level
    #: What it is about: an option, a setting, a task.
    about: str
    says: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found; `--json` prints it as it is."""

    application: str
    node: str
    broker: str
    results: str
    queues: list[str]
    concurrency: int
    #: Why all tasks take the full way; empty if they need not.
    everywhere_slow: str
    tasks: list[TaskView]
    settings: list[Origin]
    findings: list[Finding]


def _doctor(ctx: click.Context, offline: bool, as_json: bool, **_options: object) -> int:
    """Examine, print, and say by the exit code whether something is wrong."""
    options = enter_workdir(gather(flags_given(ctx), rest=ctx.args))
    require_application(options)
    export(options)
    log.setup("ERROR")
    report = examine(options, offline=offline)
    # Not sys.stdout: that is the log's, since the application has been set up as a worker's.
    click.echo(msgspec.json.format(msgspec.json.encode(report)) if as_json else as_text(report), file=sys.__stdout__)
    return WRONG if any(finding.level == "wrong" for finding in report.findings) else 0


command: OpenCommand = OpenCommand(
    "doctor",
    callback=click.pass_context(_doctor),
    params=[
        click.Option(["offline", "--offline"], is_flag=True, help="Don't ask broker and result store anything."),
        click.Option(["as_json", "--json"], is_flag=True, help="Print the report as JSON."),
        *worker_options(),
        *global_options(),
    ],
    help="Read the application as a worker would, with the same options, and list what will be different from Celery, "
    "what is misconfigured, and where each setting comes from. Starts no process and takes no message. "
    "Exit code 1 if something is wrong.",
)


def examine(options: WorkerOptions, *, offline: bool) -> Report:
    """Load the application in this process and look at it. Raises ApplicationError or SettingError."""
    from fastq.app.find import find_native

    native = find_native(options.app)
    if native is not None:
        return _examine_native(native, options, offline=offline)
    from fastq.compat.celery import examine as look
    from fastq.compat.celery.program import CeleryProgram

    program = CeleryProgram()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        program.load(options)
    info, app = program.describe(), program.app
    tasks, settings = look.views(app), look.origins(app, options)
    everywhere = look.everywhere_slow(app)
    findings = [
        *_about_options(options),
        *(_warned(warning) for warning in caught if not issubclass(warning.category, DeprecationWarning)),
        *(Finding(level="differs", about="application", says=warning) for warning in info.warnings),
        *_about_settings(settings),
        *(_misspelt(name, meant) for name, meant in look.misspelt(app)),
        *_about_broker(info, offline=offline),
        *_about_results(info, offline=offline),
        *_about_tasks(info.tasks, tasks),
        *_about_speed(everywhere, tasks, look.receivers()),
    ]
    return Report(
        application=info.app_name.partition(":")[0],
        node=info.node,
        broker=info.broker_shown,
        results=info.results.shown,
        queues=[queue.name for queue in info.queues],
        concurrency=info.concurrency,
        everywhere_slow=everywhere,
        tasks=tasks,
        settings=settings,
        findings=sorted(findings, key=lambda each: ("wrong", "differs", "note").index(each.level)),
    )


def _examine_native(app: FastQ, options: WorkerOptions, *, offline: bool) -> Report:
    """The same of a native application, which has no other worker to differ from."""
    from fastq.app.program import NativeProgram

    program = NativeProgram(app)
    program.load(options)
    info = program.describe()
    tasks = [_native_view(task, app.tasks[task.name]) for task in info.tasks]
    findings = [
        *_about_options(options),
        *(Finding(level="note", about="application", says=warning) for warning in info.warnings),
        *_about_broker(info, offline=offline),
        *_about_results(info, offline=offline),
        *_about_tasks(info.tasks, tasks),
    ]
    return Report(
        application=info.app_name,
        node=info.node,
        broker=info.broker_shown,
        results=info.results.shown,
        queues=[queue.name for queue in info.queues],
        concurrency=info.concurrency,
        everywhere_slow="",
        tasks=tasks,
        settings=_native_settings(app),
        findings=sorted(findings, key=lambda each: ("wrong", "differs", "note").index(each.level)),
    )


def _native_view(info: TaskInfo, task: BaseTask[Any, Any]) -> TaskView:
    return TaskView(
        name=info.name,
        slow="",
        acks_late=info.acks_late,
        reject_on_worker_lost=bool(task.options.reject_on_worker_lost),
        soft_time_limit=info.soft_time_limit,
        time_limit=info.time_limit,
    )


def _native_settings(app: FastQ) -> list[Origin]:
    """Those that are not as they are by default; addresses without passwords."""
    from fastq.app.settings import Settings
    from fastq.transport.urls import read_urls

    found, default = [], Settings()
    for name in Settings.__struct_fields__:
        value = getattr(app.conf, name)
        if value == getattr(default, name):
            continue
        is_address = name in ("broker_url", "result_backend")
        text = ";".join(address.masked() for address in read_urls(value)) if is_address else repr(value)
        found.append(Origin(name=name, value=text, origin="the application, or the command line"))
    return found


# ---------------------------------------------------------------------------- what is looked at


def _about_options(options: WorkerOptions) -> Iterator[Finding]:
    for flag, instead in not_yet_effective(options).items():
        yield Finding(level="differs", about=flag, says=instead)


def _about_settings(settings: list[Origin]) -> Iterator[Finding]:
    from fastq.compat.celery.known_settings import read

    known = {row.name: row for row in read() if row.status == "different" and row.remark}
    for each in settings:
        if each.name in known and each.name not in _TOLD:
            yield Finding(level="differs", about=each.name, says=known[each.name].remark)


def _warned(warning: warnings.WarningMessage) -> Finding:
    text = str(warning.message).strip().partition("\n\n")[0]
    return Finding(level="note", about=warning.category.__name__, says=" ".join(text.split()))


def _misspelt(name: str, meant: str) -> Finding:
    hint = f"; did you mean {meant}?" if meant else ""
    return Finding(level="wrong", about=name, says=f"is no setting of Celery's, and has no effect{hint}")


def _about_broker(info: ProgramInfo, *, offline: bool) -> Iterator[Finding]:
    from fastq.transport.connect import Endpoint

    try:
        endpoint = Endpoint.parse(
            info.broker_urls, transport_options=info.transport_options, use_ssl=info.broker_use_ssl
        )
    except FastqError as error:
        yield Finding(level="wrong", about="broker_url", says=error.message)
        return
    if not offline:
        yield from _ask(endpoint, about="broker_url", keeps_messages=True)


def _about_results(info: ProgramInfo, *, offline: bool) -> Iterator[Finding]:
    if info.results.kind == "other":
        says = (
            f"results go to {info.results.shown} from each child, one by one, as with Celery; only Redis gets batches"
        )
        yield Finding(level="note", about="result_backend", says=says)
    if info.results.kind == "redis" and not offline:
        from fastq.worker.parts import result_endpoint

        yield from _ask(result_endpoint(info.results), about="result_backend", keeps_messages=False)


def _ask(endpoint: Any, *, about: str, keeps_messages: bool) -> Iterator[Finding]:
    """What the server says of itself."""
    try:
        client = endpoint.client(timeout_s=ASK_S)
        server: dict[str, Any] = client.info()
    except Exception as error:
        yield Finding(level="wrong", about=about, says=endpoint.explain(error).message)
        return
    client.close()
    version = tuple(int(part) for part in str(server.get("redis_version", "0")).split(".")[:2])
    if version < (6, 2):
        says = f"the server is Redis {server['redis_version']}; fastq needs 6.2 or later, or Valkey"
        yield Finding(level="wrong", about=about, says=says)
    if server.get("role") == "slave":
        yield Finding(level="wrong", about=about, says="the server is a replica: it takes no writes; name its master")
    if keeps_messages:
        yield from _about_keeping(server, about=about)


def _about_keeping(server: dict[str, Any], *, about: str) -> Iterator[Finding]:
    policy = str(server.get("maxmemory_policy", "noeviction"))
    if server.get("maxmemory") and policy != "noeviction":
        says = f"the server may evict queues and claims when its memory is full (maxmemory-policy {policy}): messages "
        yield Finding(level="wrong", about=about, says=f"{says}would be lost; use noeviction")
    if not server.get("aof_enabled"):
        says = (
            "the server writes no append-only file: when it is killed, messages of the last seconds or minutes are gone"
        )
        yield Finding(level="note", about=about, says=says)


def _about_tasks(infos: list[TaskInfo], tasks: list[TaskView]) -> Iterator[Finding]:
    from fastq.worker.pipeline.rate import interval_s

    for task in tasks:
        if task.soft_time_limit and task.time_limit and task.soft_time_limit >= task.time_limit:
            says = (
                f"its soft time limit ({task.soft_time_limit:g} s) is not below its time limit ({task.time_limit:g} s)"
            )
            yield Finding(level="wrong", about=task.name, says=f"{says}: it is killed before it is warned")
    for info in infos:
        try:
            interval_s(info.rate_limit)
        except FastqError as error:
            yield Finding(level="wrong", about=info.name, says=error.message)
    careless = [task.name for task in tasks if task.acks_late and not task.reject_on_worker_lost]
    if careless:
        says = "acks_late without reject_on_worker_lost: when a child dies in one, it fails, and does not run again"
        yield Finding(level="note", about=_some(careless), says=says)


def _about_speed(everywhere: str, tasks: list[TaskView], receivers: Any) -> Iterator[Finding]:
    if everywhere:
        says = f"{everywhere}: all tasks take the full way, at about a tenth of the speed of the compiled one"
        yield Finding(level="note", about="speed", says=says)
        return
    for reason, count in sorted(Counter(task.slow for task in tasks if task.slow).items()):
        some = _some([task.name for task in tasks if task.slow == reason])
        says = f"{count} of {len(tasks)} tasks take the full way, because {reason}: {some}"
        yield Finding(level="note", about="speed", says=says)
    if receivers:
        says = "receivers are called for each task: " + ", ".join(f"{name} ({n})" for name, n in receivers.items())
        yield Finding(level="note", about="speed", says=says)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# ---------------------------------------------------------------------------- as text

_HEADS: dict[Level, str] = {"wrong": "Wrong", "differs": "Different from Celery", "note": "To know"}


def as_text(report: Report) -> str:
    """The report for people."""
    lines = [
        f"application  {report.application}, {len(report.tasks)} tasks",
        f"node         {report.node}",
        f"broker       {report.broker}",
        f"results      {report.results}",
        f"queues       {', '.join(report.queues)}",
        f"concurrency  {report.concurrency}",
    ]
    for level, head in _HEADS.items():
        found = [finding for finding in report.findings if finding.level == level]
        if found:
            lines += ["", f"{head}:", *(f"  {finding.about}: {finding.says}" for finding in found)]
    if report.settings:
        width = max(len(setting.name) for setting in report.settings)
        lines += ["", "Settings that are not Celery's defaults:"]
        lines += [f"  {each.name:<{width}}  {each.value}  ({each.origin})" for each in report.settings]
    wrong = sum(finding.level == "wrong" for finding in report.findings)
    return "\n".join([*lines, "", f"{wrong} wrong." if wrong else "Nothing wrong."])
