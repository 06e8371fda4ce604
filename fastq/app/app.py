"""The application: its settings, its tasks, and how they are sent.

    app = FastQ("shop", broker="redis://127.0.0.1:6379/0", backend="redis://127.0.0.1:6379/0")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

Nothing connects before the first task is sent, and nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Literal, overload

from fastq.app import publishing, signals
from fastq.app.canvas import embed_links, named
from fastq.app.provided import provide
from fastq.app.routes import route
from fastq.app.schedule import Scheduling, Timetable
from fastq.app.settings import Settings, Wire, read_object
from fastq.app.task import BaseTask, CoroutineTask, P, R, Task, read_options
from fastq.app.unfold import Call, Node
from fastq.errors import ApplicationError, SettingError, UnknownTask
from fastq.producer.handle import as_stored

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastq.app.canvas import Signature, SignatureOptions
    from fastq.app.eager import Eager
    from fastq.app.running.context import Request
    from fastq.app.task import TaskArguments
    from fastq.producer import AsyncHandle, AsyncProducer, Handle, Producer
    from fastq.producer.options import SendOptions
    from fastq.testing import ForkedWorker
    from fastq.transport.redis.locks import Lock

Function = Callable[..., Any]

#: Every application of this process by its name; the last of that name.
_apps: dict[str, FastQ] = {}


def find_app(name: str) -> FastQ:
    """The application of this name in this process. Raises ApplicationError."""
    try:
        return _apps[name]
    except KeyError:
        raise ApplicationError(f"no application is called {name!r} in this process; import it first") from None


class FastQ(Scheduling):
    """An application. `broker` and `backend` are Redis URLs; `settings` are those of `fastq.app.settings.Settings`.

    Raises SettingError for a setting that does not exist or has a value of the wrong type.
    """

    def __init__(
        self,
        name: str,
        *,
        broker: str | None = None,
        backend: str | None = None,
        wire: Wire = "celery",
        **settings: Any,
    ) -> None:
        self.name = name
        self.conf: Settings = Settings()
        addresses = {"broker_url": broker, "result_backend": backend}
        given = {key: value for key, value in addresses.items() if value is not None}
        self.conf.update({**given, "wire": wire, **settings}, where=f"FastQ({name!r})")
        self.tasks: dict[str, BaseTask[Any, Any]] = {}
        self.timetable: Timetable = Timetable()
        self._packages: list[tuple[Sequence[str] | Callable[[], Sequence[str]], str | None]] = []
        self._lock = threading.Lock()
        #: In a child: what returns the request that runs here, or None.
        self.current_request: Callable[[], Request | None] | None = None
        #: In a child: stores the progress of a task; see `BaseTask.progress`.
        self.report_progress: Callable[[BaseTask[Any, Any], Request, float, str], bool] | None = None
        self._producer: Producer | None = None
        self._async_producer: AsyncProducer | None = None
        #: While it is tested eagerly; and for `task_always_eager` and `apply`.
        self._eager: Eager | None = None
        self._own_eager: Eager | None = None
        _apps[name] = self

    def __repr__(self) -> str:
        return f"<FastQ {self.name}>"

    # ------------------------------------------------------------------------ settings

    def config_from_object(self, source: Any, *, namespace: str = "") -> None:
        """Take settings from a module or its name, a class, an object or a mapping; see `settings.read_object`."""
        self.conf.update(read_object(source, namespace=namespace), where=f"config_from_object({source!r})")

    # ------------------------------------------------------------------------ tasks

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, *, name: str | None = None, bind: Literal[True], **options: Unpack[TaskArguments]
    ) -> BoundDecorator: ...
    @overload
    def task(
        self, *, name: str | None = None, bind: Literal[False] = False, **options: Unpack[TaskArguments]
    ) -> Decorator: ...
    def task(self, function: Function | None = None, *, name: str | None = None, **options: Any) -> Any:
        """Make a task of a function or coroutine function, by default under the name `module.function`.

        `options` are those of `TaskOptions`. Raises OptionError for one that does not exist, and ApplicationError for a
        name that another function has.
        """
        if function is None:
            return lambda inner: self._add(inner, name=name, options=options)
        return self._add(function, name=name, options=options)

    def _add(self, function: Function, *, name: str | None, options: Mapping[str, Any]) -> BaseTask[Any, Any]:
        full = name or self._name_of(function)
        kind = CoroutineTask if _is_coroutine(function) else Task
        task: BaseTask[Any, Any] = kind(self, function, name=full, options=read_options(options, name=full))
        if not _KEYED.isdisjoint(options):
            from fastq.app import unique

            unique.check(function, task.options, name=full)
        old = self.tasks.get(full)
        if old is not None and _place(old.function) != _place(function):
            raise ApplicationError(f"two functions are called {full!r}: {_place(old.function)} and {_place(function)}")
        self.tasks[full] = task
        return task

    def _name_of(self, function: Function) -> str:
        module = function.__module__
        if module == "__main__":
            spec = getattr(sys.modules.get("__main__"), "__spec__", None)
            module = spec.name.removesuffix(".__main__") if spec is not None else self.name
        return f"{module}.{function.__name__}"

    def autodiscover_tasks(
        self, packages: Sequence[str] | Callable[[], Sequence[str]] | None = None, *, related_name: str | None = "tasks"
    ) -> None:
        """Have a worker import the module `related_name` of each package, where there is one.

        None stands for Django's INSTALLED_APPS. `related_name=None` imports the packages themselves.
        """
        self._packages.append((_installed_apps if packages is None else packages, related_name))

    def import_tasks(self) -> None:
        """Import what registers tasks: `imports`, `include`, and what `autodiscover_tasks` was told. A worker does."""
        for module in (*self.conf.imports, *self.conf.include):
            importlib.import_module(module)
        for packages, related_name in self._packages:
            for package in packages() if callable(packages) else packages:
                _import_related(package, related_name)
        provide(self)

    # ------------------------------------------------------------------------ sending

    def send_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> Handle[Any]:
        """Send a task by its name, whoever has it. Raises as `Producer.send`."""
        return self._send(self.tasks.get(name) or name, args, kwargs or {}, options)

    def signature(
        self,
        task: str | Mapping[str, Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **options: Unpack[SignatureOptions],
    ) -> Signature[Any]:
        """The signature of a task by its name, whoever has it; or the one that somebody has sent, as it is written.

        Raises OptionError.
        """
        return named(self, task, args, kwargs or {}, immutable=immutable).set(**options)

    def AsyncResult(self, task_id: str) -> Handle[Any]:
        """The handle of a task that was sent, by whomever."""
        return self.producer.handle(task_id)

    @property
    def producer(self) -> Producer:
        """What sends tasks; made at first use."""
        if self._eager is not None or self.conf.task_always_eager:
            return self.eager.producer
        if self._producer is None:
            from fastq.producer import Producer

            with self._lock:
                if self._producer is None:
                    buffer = self.conf.publish_buffer
                    self._producer = Producer(self.conf.broker_url, buffer=buffer, **self._producer_options())
        return self._producer

    @property
    def async_producer(self) -> AsyncProducer:
        """The same for programs with an event loop."""
        if self._eager is not None or self.conf.task_always_eager:
            return self.eager.async_producer
        if self._async_producer is None:
            from fastq.producer import AsyncProducer

            with self._lock:
                if self._async_producer is None:
                    self._async_producer = AsyncProducer(self.conf.broker_url, **self._producer_options())
        return self._async_producer

    def _producer_options(self) -> dict[str, Any]:
        conf = self.conf
        return {
            "queue": conf.default_queue,
            "priority": conf.task_default_priority or 0,
            "wire": conf.wire,
            "transport_options": conf.broker_transport_options,
            "use_ssl": conf.broker_use_ssl,
            "confirm": conf.publish_confirm,
            "control_exchange": conf.control_exchange,
            "result_url": conf.result_backend or "",
            "result_options": conf.result_backend_transport_options,
            "result_prefix": str(conf.result_backend_transport_options.get("global_keyprefix") or ""),
        }

    def _send(
        self, task: BaseTask[Any, Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Handle[Any]:
        name, chosen, lock = self._prepared(task, args, kwargs, options)
        decode = as_stored if isinstance(task, str) else task.decode
        if lock is None:
            handle = self.producer.send(name, args, kwargs, decode=decode, **chosen)
        else:
            handle = self.producer.send_once(name, args, kwargs, lock=lock, decode=decode, **chosen)
        self._was_sent(handle, name, args, kwargs, chosen)
        return handle

    async def _asend(
        self, task: BaseTask[Any, Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> AsyncHandle[Any]:
        name, chosen, lock = self._prepared(task, args, kwargs, options)
        decode = as_stored if isinstance(task, str) else task.decode
        if lock is None:
            handle = await self.async_producer.send(name, args, kwargs, decode=decode, **chosen)
        else:
            handle = await self.async_producer.send_once(name, args, kwargs, lock=lock, decode=decode, **chosen)
        self._was_sent(handle, name, args, kwargs, chosen)
        return handle

    def compose(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[str, bytes | str, Lock | None]:
        """The list on the broker, the message that `send_task` would push to it, and the lock that a unique task is
        sent under; nothing is sent."""
        name, chosen, lock = self._prepared(self.tasks.get(name) or name, args, kwargs, options)
        push = self.producer.compose(name, args, kwargs, **chosen)
        return push.key, push.messages[0], lock

    def _prepared(
        self, task: BaseTask[Any, Any] | str, args: Any, kwargs: Any, options: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any], Lock | None]:
        """Name and options of a message that is about to be sent, and the lock that it is sent under, if any."""
        name, chosen = self._decide(task, args, kwargs, options)
        if signals.before_task_publish.receivers:
            chosen = publishing.before(self, name, args, kwargs, chosen)
        if isinstance(task, str) or not task.is_unique or not _is_marked(chosen):
            return name, chosen, None
        return name, chosen, _lock_for(self, task, chosen)

    def _was_sent(
        self, handle: Handle[Any] | AsyncHandle[Any], name: str, args: Any, kwargs: Any, chosen: Mapping[str, Any]
    ) -> None:
        """Tell of a message that was sent; nothing was, if the handle is that of a unique task's first one."""
        if handle.existed:
            return
        if self.current_request is not None:
            self._sent(Node(handle.id, name))
        if signals.after_task_publish.receivers:
            options = {**chosen, "task_id": handle.id}
            publishing.after(self, [Call(name=name, args=args, kwargs=kwargs, options=options)])

    def _decide(
        self, task: BaseTask[Any, Any] | str, args: Any, kwargs: Any, options: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """The name, and the options of the message: those of the call win over routes, and these over the task's."""
        if isinstance(task, str):
            name, own = task, {}
        else:
            name, own = task.name, task.sent_options
            if self.ignores_results(task):
                own = {**own, "ignore_result": True}
        if self.conf.task_routes:
            routed = route(self.conf.task_routes, name, args=args, kwargs=kwargs, options=options, task=task)
            own = {**own, **routed}
        chosen = {**own, **self._lineage(), **{key: value for key, value in options.items() if value is not None}}
        if not isinstance(task, str) and (task.is_unique or "unique" in chosen):
            from fastq.app import unique

            unique.mark(task, args, kwargs, chosen)
        if "link" in chosen or "link_error" in chosen:
            chosen["embed"] = embed_links(chosen)
        return name, chosen

    def ignores_results(self, task: BaseTask[Any, Any] | None) -> bool:
        """Whether nobody stores what it returns, unless a send says otherwise. None: a task of another program."""
        if task is None:
            return False
        own = task.options.ignore_result
        return self.conf.task_ignore_result if own is None else own

    def _lineage(self) -> dict[str, str]:
        """What is sent inside of a task says so."""
        request = self.current_request() if self.current_request is not None else None
        return {} if request is None else {"parent_id": request.id, "root_id": request.root_id}

    def _sent(self, node: Node) -> None:
        """The result of a task says what it has sent."""
        request = self.current_request() if self.current_request is not None else None
        if request is not None:
            request.add_child(node)

    @property
    def has_coroutines(self) -> bool:
        """Whether any task is a coroutine: then children run event loops."""
        return any(task.is_coroutine for task in self.tasks.values())

    # ------------------------------------------------------------------------ testing

    @overload
    def testing(self, *, propagates: bool = False) -> Eager: ...
    @overload
    def testing(self, *, children: int, loglevel: str = "WARNING") -> ForkedWorker: ...
    def testing(self, *, children: int = 0, propagates: bool = False, loglevel: str = "WARNING") -> Any:
        """What runs this application's tasks for tests, in a `with` block, without a server.

        Without children, tasks run where they are sent, at once (`fastq.app.eager`); `propagates` raises their errors
        there. With children, a worker forked from this process runs them, over the memory transport: whatever was
        defined, imported or patched before the block is there as it is here (`fastq.testing`).
        """
        if children:
            from fastq import linux

            linux.require("app.testing(children=...)")
            from fastq.testing import ForkedWorker

            return ForkedWorker(self, children=children, loglevel=loglevel)
        from fastq.app.eager import Eager

        return Eager(self, propagates=propagates)

    @property
    def eager(self) -> Eager:
        """What runs tasks at once while the application is tested so, under `task_always_eager`, and for `apply`."""
        if self._eager is not None:
            return self._eager
        if self._own_eager is None:
            from fastq.app.eager import Eager

            self._own_eager = Eager(self, propagates=self.conf.task_eager_propagates)
        return self._own_eager

    def find_task(self, name: str) -> BaseTask[Any, Any]:
        """The task of this name. Raises UnknownTask."""
        try:
            return self.tasks[name]
        except KeyError:
            raise UnknownTask(f"the application {self.name!r} has no task {name!r}", task=name) from None

    async def aclose(self) -> None:
        """`close` in a program with an event loop: the connections of this loop, too."""
        producer, self._async_producer = self._async_producer, None
        if producer is not None:
            await producer.close()
        self.close()

    def close(self) -> None:
        """Let the connections go, but for those of event loops (`aclose`); they are made again when needed."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()


class Decorator:
    """What `app.task(...)` returns, for type checkers only."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, function: Function, /) -> Any: ...


class BoundDecorator:
    """The same with bind=True: the first argument is the task, and callers do not give it."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> CoroutineTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...
    def __call__(self, function: Function, /) -> Any: ...


#: Options that are about several tasks of one key, and are checked.
_KEYED = frozenset({"unique", "unique_for", "max_running", "max_running_key"})


def _is_marked(chosen: Mapping[str, Any]) -> bool:
    from fastq.app.unique import HEADER

    return HEADER in (chosen.get("headers") or ())


def _lock_for(app: FastQ, task: BaseTask[Any, Any], chosen: Mapping[str, Any]) -> Lock:
    from fastq.app.unique import lock_for

    return lock_for(app, task, chosen)


def _is_coroutine(function: Function) -> bool:
    import inspect

    return inspect.iscoroutinefunction(function)


def _place(function: Function) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(function)


def _installed_apps() -> list[str]:
    if "django" not in sys.modules:
        raise SettingError(
            "autodiscover_tasks() without packages looks at Django's INSTALLED_APPS; Django is not loaded"
        )
    from django.apps import apps

    return [config.name for config in apps.get_app_configs()]


def _import_related(package: str, related_name: str | None) -> None:
    if related_name is None:
        importlib.import_module(package)
        return
    name = f"{package}.{related_name}"
    # Looked for first: an import error inside of a module of tasks must be heard of.
    importlib.import_module(package)
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name)
