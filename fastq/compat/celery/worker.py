"""Set an application up as `celery worker` does, with Celery's own worker class, and start nothing.

`celery.apps.worker.Worker` decides the order in which settings, signals, imports and logging happen, and is what
receivers get as `sender` and `instance`. So it is Celery's class that runs here, without its pool and its consumer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from fastq.compat.celery.request_class import unheard
from fastq.compat.celery.useroptions import UserOptions
from fastq.config.nodename import node_name
from fastq.config.possible import nearest
from fastq.config.settings import WorkerOptions
from fastq.errors import SettingError

#: Options that go to the worker class under their own names; None leaves the decision to the settings.
_PASSED = (
    "optimization",
    "prefetch_multiplier",
    "concurrency",
    "task_events",
    "time_limit",
    "soft_time_limit",
    "max_tasks_per_child",
    "max_memory_per_child",
    "pool_start_method",
    "without_gossip",
    "without_mingle",
    "without_heartbeat",
    "heartbeat_interval",
    "autoscale",
    "statedb",
    "beat",
    "scheduler",
    "detach",
    "executable",
)


def set_up(app: Any, options: WorkerOptions, *, more: UserOptions) -> Any:
    """The worker object, after everything that Celery does before it connects. Raises SettingError."""
    from celery.exceptions import ImproperlyConfigured, SecurityError

    try:
        _override_settings(app, options, more.overrides)
        worker = _worker_class(app)(hostname=node_name(options.hostname), **_arguments(app, options) | more.passed)
        worker.on_start()
    except (ImproperlyConfigured, SecurityError) as error:
        # Not a usage error: Celery ends with 1 here too.
        raise SettingError(" ".join(str(error).split()), exit_code=1) from error
    return worker


def _override_settings(app: Any, options: WorkerOptions, overrides: Mapping[str, str]) -> None:
    app.conf.get("worker_concurrency")  # loads the configuration: overrides come after it
    if options.disable_prefetch is not None:
        app.conf.worker_disable_prefetch = options.disable_prefetch
    for name, value in overrides.items():
        try:
            app.config_from_cmdline([f"{name}={value}"], namespace="worker")
        except (KeyError, ValueError) as error:
            reason = _no_setting(name) if isinstance(error, KeyError) or "_" not in name else str(error)
            raise SettingError(f"{name}={value} after -- cannot be used: {reason}") from error


def _no_setting(name: str) -> str:
    """What is wrong with a name that Celery's parser does not find, or cannot even take apart."""
    from celery.app.defaults import NAMESPACES, flatten

    meant = nearest(name, [known for known, _ in flatten(NAMESPACES)])
    return f"Celery has no setting {name}; {f'did you mean {meant}?' if meant else 'docs/celery/settings.md has them'}"


def _arguments(app: Any, options: WorkerOptions) -> dict[str, Any]:
    from celery.concurrency import get_implementation
    from celery.utils.log import mlevel
    from celery.utils.nodenames import node_format

    level = int(options.loglevel) if options.loglevel.isdigit() else mlevel(options.loglevel)
    passed = {name: getattr(options, name) for name in _PASSED}
    if isinstance(options.autoscale, str):
        passed["autoscale"] = None  # ours; what the application's own class may know of it is in `describe`
    return passed | {
        "prefetch_multiplier": options.prefetch_multiplier or None,
        "concurrency": options.concurrency or None,
        "loglevel": level,
        "statedb": node_format(options.statedb or app.conf.get("worker_state_db"), node_name(options.hostname)),
        "logfile": options.logfile or app.conf.get("worker_logfile"),
        "queues": list(options.queues) or None,
        "exclude_queues": list(options.exclude_queues) or None,
        "include": list(options.include) or None,
        "no_color": options.no_color or None,
        "schedule_filename": options.schedule or app.conf.beat_schedule_filename,
        "umask": options.umask,
        "pool_cls": get_implementation("prefork"),
        # The engine owns pidfile, purge, banner and event loop.
        "pidfile": None,
        "purge": False,
        "quiet": True,
        "use_eventloop": False,
    }


def _worker_class(app: Any) -> Any:
    from fastq.compat.celery.steps import Blueprint

    class Worker(app.Worker):
        """Celery's worker without a pool, a consumer and a hub."""

        def install_platform_tweaks(self, worker: Any) -> None:
            """The nursery owns its signals."""

        def set_process_status(self, info: str) -> None:
            """The nursery names itself."""

    Worker.Blueprint = Blueprint
    return Worker


def warnings_about(app: Any, worker: Any) -> list[str]:
    """What of this application does not take effect here, one line each."""
    found = [
        f"the worker bootstep {name} is ignored: it requires parts of Celery's worker that are not here"
        for name in worker.blueprint.ignored
    ]
    found += [f"the consumer bootstep {step} is ignored: there is no Celery consumer" for step in _consumer_steps(app)]
    found += _replaced_classes(app) + unheard(app)
    if not app.amqp.queues.consume_from:
        found.append("no queue is left to consume: -X excludes all. This worker runs nothing until it is given a queue")
    if app.conf.get("worker_cancel_long_running_tasks_on_connection_loss"):
        found.append(
            "worker_cancel_long_running_tasks_on_connection_loss has no effect: what runs keeps its message when the "
            "connection is lost, so it is neither delivered again nor cancelled"
        )
    return found + [f"the application started the thread {name!r} before children are forked" for name in _threads()]


def _consumer_steps(app: Any) -> list[str]:
    return sorted(str(getattr(step, "name", step)) for step in app.steps["consumer"])


def _replaced_classes(app: Any) -> list[str]:
    conf, found = app.conf, []
    if str(conf.worker_consumer) != "celery.worker.consumer:Consumer":
        found.append(f"worker_consumer {conf.worker_consumer!r} is ignored: there is no Celery consumer")
    if conf.worker_agent:
        found.append(f"worker_agent {conf.worker_agent!r} is ignored: there is no Celery consumer")
    if not isinstance(conf.broker_failover_strategy or "", str):
        found.append("broker_failover_strategy is no name, and ignored: brokers are tried in turn")
    if str(conf.worker_pool) not in ("prefork", "processes"):
        found.append(f"worker_pool {conf.worker_pool!r} is ignored: tasks run in forked children")
    if str(conf.worker_autoscaler) != "celery.worker.autoscale:Autoscaler":
        found.append(f"worker_autoscaler {conf.worker_autoscaler!r} is ignored: fastq scales by itself")
    strategies = {str(task.Strategy) for task in app.tasks.values()} - {"celery.worker.strategy:default"}
    return found + [f"the task strategy {name} is ignored" for name in sorted(strategies)]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
