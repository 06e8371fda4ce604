"""A task: a function with a name and options, that can be called here or sent to a worker.

@app.task(max_retries=5, autoretry_for=(ConnectionError,), retry_backoff=True)
def charge(order: Order) -> Receipt: ...

charge(order)                    # here, now
charge.delay(order)              # sent; type checkers see the arguments of the function
charge.delay(order).get()        # -> Receipt
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar

import msgspec

from fastq import clock
from fastq.app.canvas import Signature, chunked, group, mapped, of_task
from fastq.app.checks import check
from fastq.errors import MaxRetriesExceeded, OptionError, Retry

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastq.app.app import FastQ
    from fastq.app.canvas import SignatureOptions
    from fastq.app.running.context import Request
    from fastq.producer.handle import AsyncHandle, Handle
    from fastq.producer.options import SendOptions

    class TaskSendOptions(SignatureOptions, total=False):
        """The same; `unique=False` sends a unique task whatever waits."""

        unique: bool


P = ParamSpec("P")
R = TypeVar("R")


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `@app.task(...)` takes besides the name. None leaves the decision to the application's setting.

    Times are in seconds. The names are Celery's.
    """

    queue: str | None = None
    priority: int | None = None
    #: The function gets the task itself as its first argument.
    bind: bool = False
    acks_late: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    ignore_result: bool | None = None
    #: Seconds that its results are kept; 0: for ever.
    result_expires: float | None = None
    store_errors_even_if_ignored: bool | None = None
    track_started: bool | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    #: "10/s", "100/m", "1000/h": for each worker.
    rate_limit: str | None = None
    expires: float | None = None
    send_events: bool = True
    #: Refuse a send whose arguments the function does not take, with the TypeError that it would raise itself.
    typing: bool = True
    #: One waiting or running task per key: True (all arguments), an argument's name, or a function of the arguments
    #: that returns the key. Sending another returns the handle of the first, for `unique_for` seconds at most.
    unique: bool | str | Callable[..., str] = False
    unique_for: float = 3600.0
    #: So many of it run at once on all workers together, or so many per key: `max_running_key` is an argument's name, a
    #: function of the arguments that returns the key, or True (all arguments). Others wait on the broker meanwhile.
    max_running: int | None = None
    max_running_key: bool | str | Callable[..., str] | None = None
    #: Attempts after the first; None: no end of them.
    max_retries: int | None = 3
    default_retry_delay: float = 180.0
    #: Errors after which it is tried again by itself, and those of their kind after which it is not.
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    #: Delays that double: of 1, 2, 4 ... seconds (True), or of so many times that.
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600.0
    #: Take a random part of each such delay, so that not all come back at once.
    retry_jitter: bool = True
    #: Functions or coroutine functions, called in the child when it has succeeded, has failed for good, is tried again:
    #: with (task, request, value) or (task, request, error). What they raise is logged, and changes nothing.
    on_success: Callable[..., Any] | None = None
    on_failure: Callable[..., Any] | None = None
    on_retry: Callable[..., Any] | None = None

    def retry_delay_s(self, retries: int) -> float:
        """Seconds before the attempt after `retries` retries."""
        if not self.retry_backoff:
            return self.default_retry_delay
        delay_s = min(self.retry_backoff_max, float(self.retry_backoff) * 2.0 ** min(retries, 100))
        return delay_s * clock.random_fraction() if self.retry_jitter else delay_s


#: Options of a task that go into its messages.
_SENT = ("queue", "priority", "expires")


class TaskArguments(TypedDict, total=False):
    """The arguments of `@app.task(...)` besides `name` and `bind`, for type checkers: the fields of TaskOptions."""

    queue: str | None
    priority: int | None
    acks_late: bool | None
    acks_on_failure_or_timeout: bool | None
    reject_on_worker_lost: bool | None
    ignore_result: bool | None
    result_expires: float | None
    store_errors_even_if_ignored: bool | None
    track_started: bool | None
    time_limit: float | None
    soft_time_limit: float | None
    rate_limit: str | None
    expires: float | None
    send_events: bool
    typing: bool
    unique: bool | str | Callable[..., str]
    unique_for: float
    max_running: int | None
    max_running_key: bool | str | Callable[..., str] | None
    max_retries: int | None
    default_retry_delay: float
    autoretry_for: Iterable[type[BaseException]]
    dont_autoretry_for: Iterable[type[BaseException]]
    retry_backoff: bool | float
    retry_backoff_max: float
    retry_jitter: bool
    on_success: Callable[..., Any] | None
    on_failure: Callable[..., Any] | None
    on_retry: Callable[..., Any] | None


class BaseTask(Generic[P, R]):
    """What tasks of functions and of coroutines have in common: everything but the call."""

    def __init__(self, app: FastQ, function: Callable[..., Any], *, name: str, options: TaskOptions) -> None:
        self.app: FastQ = app
        self.function: Callable[..., Any] = function
        self.name: str = name
        self.options: TaskOptions = options
        self.is_unique: bool = options.unique is not False
        #: Whether it has something to give back when it ends.
        self.is_keyed: bool = self.is_unique or options.max_running is not None
        #: What its messages say if a send and the routes do not.
        self.sent_options: dict[str, Any] = {
            name: value for name in _SENT if (value := getattr(options, name)) is not None
        }
        #: In a child, which sets it: whether nothing is stored, unless a message says otherwise.
        self.ignore_result: bool = bool(options.ignore_result)
        self.is_coroutine: bool = inspect.iscoroutinefunction(function)
        self.__name__: str = getattr(function, "__name__", name)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {self.app.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _registered, (self.app.name, self.name)

    # ------------------------------------------------------------------------ sending

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send it with these arguments; blocks until the broker has it.

        Raises TypeError for arguments that the function does not take (but for typing=False), and as `Producer.send`.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[TaskSendOptions]
    ) -> Handle[R]:
        """Send it with options: countdown, eta, expires, queue, priority, task_id, time_limit, link and so on.

        Raises as `delay`.
        """
        kwargs = kwargs or {}
        check_call(self, args, kwargs)
        return self.app._send(self, args, kwargs, options)

    def delay_on_commit(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """In a Django project: `delay` when the transaction of the default database is committed, and never if it is
        rolled back; at once outside of a transaction. There is no handle, for nobody knows yet whether it is sent."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        using: str | None = None,
        **options: Unpack[SendOptions],
    ) -> None:
        """`apply_async` in the same way; `using` names another database of the project."""
        check_call(self, args, kwargs or {})
        from django.db import transaction

        transaction.on_commit(lambda: self.apply_async(args, kwargs, **options), using=using)

    def apply(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[SendOptions]
    ) -> Handle[R]:
        """Run it here and now as a worker would, retries included, and return the handle of its result; what it sends
        itself is sent. Raises what it raises only under `task_eager_propagates`."""
        name, chosen = self.app._decide(self, args, kwargs or {}, options)
        return self.app.eager.producer.send(name, args, kwargs, decode=self.decode, **chosen)

    async def adelay(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncHandle[R]:
        """`delay` for a program with an event loop; returns when the broker has it."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[TaskSendOptions]
    ) -> AsyncHandle[R]:
        """`apply_async` for a program with an event loop."""
        kwargs = kwargs or {}
        check_call(self, args, kwargs)
        return await self.app._asend(self, args, kwargs, options)

    # ------------------------------------------------------------------------ as a part of a workflow

    def s(self, /, *args: Any, **kwargs: Any) -> Signature[R]:
        """A signature with these arguments: to be sent later, or as a part of a workflow. See `fastq.app.canvas`."""
        return of_task(self, args, kwargs)

    def si(self, /, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """A signature that takes no more arguments: what comes before it does not pass its result on."""
        return of_task(self, args, kwargs, immutable=True)

    def signature(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **options: Any,
    ) -> Signature[R]:
        """A signature with options. Raises OptionError for a unique task, unless with unique=False."""
        return of_task(self, args, kwargs or {}, immutable=immutable, unique=options.pop("unique", True)).set(**options)

    def map(self, items: Iterable[Any]) -> Signature[list[R]]:
        """One message that has it called for each of `items`; its result is the list of results."""
        return mapped(self, items, name="celery.map")

    def starmap(self, items: Iterable[Sequence[Any]]) -> Signature[list[R]]:
        """The same for tuples of arguments."""
        return mapped(self, items, name="celery.starmap")

    def chunks(self, items: Iterable[Sequence[Any]], size: int) -> group[list[R]]:
        """A group of starmaps of `size` tuples of arguments each."""
        return chunked(self, items, size)

    @functools.cached_property
    def check_arguments(self) -> Callable[..., None]:
        """Raises TypeError for arguments that the function does not take, as calling it would; see `app.header`."""
        from fastq.app.header import anything, header_of

        return header_of(self.function, bound=self.options.bind) if self.options.typing else anything

    @functools.cached_property
    def decode(self) -> Callable[[Any], R]:
        """Makes of a stored result what the function says it returns."""
        from fastq.app.running.arguments import decoder_of

        return decoder_of(self.function)

    # ------------------------------------------------------------------------ while it runs

    @property
    def request(self) -> Request:
        """The request that this thread or coroutine carries out now: id, args, kwargs, retries and so on."""
        from fastq.app.running.context import current_request

        return current_request()

    def progress(self, current: float, message: str = "") -> bool:
        """Say how far it is: `current` from 0 to 1, and in words. Seen by `Handle.progress`, and by Celery's clients as
        state PROGRESS with {"current", "message"} as its info.

        Cheap enough for every turn of a loop: of those within 0.2 seconds only the first is stored, and 1.0. Tells
        whether this one was. Raises TaskError where no task runs.
        """
        request, store = self.request, self.app.report_progress
        return store(self, request, float(current), message) if store is not None else False

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        max_retries: int | None = None,
    ) -> Retry:
        """Make the error that asks for another attempt: `raise self.retry(exc=error, countdown=10)`.

        The delay is `countdown` (or until `eta`), else what the task's options say. Raises `exc`, or MaxRetriesExceeded
        without one, if this was the last attempt.
        """
        from fastq.wire.brief import safe_repr

        request = self.request
        most = self.options.max_retries if max_retries is None else max_retries
        if most is not None and request.retries >= most:
            raise exc or MaxRetriesExceeded(
                f"task {self.name}[{request.id}] has been tried {request.retries + 1} times; max_retries is {most}"
            )
        if eta is not None:
            aware = eta if eta.tzinfo is not None else eta.replace(tzinfo=timezone.utc)
            countdown = max(0.0, aware.timestamp() - clock.now())
        delay_s = self.options.retry_delay_s(request.retries) if countdown is None else countdown
        return Retry(f"Retry in {delay_s:g}s" + (f": {safe_repr(exc)}" if exc else ""), cause=exc, countdown=delay_s)


class Task(BaseTask[P, R]):
    """A task of a function. Calling it runs the function here."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here and now, without a message."""
        if self.options.bind:
            return self.function(self, *args, **kwargs)  # type: ignore[no-any-return]
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]


class CoroutineTask(BaseTask[P, R]):
    """A task of a coroutine function. Calling it makes the coroutine."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The coroutine, to be awaited here."""
        if self.options.bind:
            return self.function(self, *args, **kwargs)  # type: ignore[no-any-return]
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]


def check_call(task: BaseTask[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises TypeError for arguments that the task's function does not take."""
    try:
        task.check_arguments(*args, **kwargs)
    except TypeError:
        # What are no arguments at all is said in better words where the message is written.
        if isinstance(args, (tuple, list)) and hasattr(kwargs, "keys"):
            raise


#: What Celery's tasks have as methods, and signals say here.
_SIGNALS = {"before_start": "task_prerun", "after_return": "task_postrun"}


def read_options(given: Mapping[str, Any], *, name: str) -> TaskOptions:
    """The options of a decorator. Raises OptionError for one that does not exist."""
    known = TaskOptions.__struct_fields__
    for option in given:
        if option not in known:
            signal = _SIGNALS.get(option)
            advice = f"connect to the signal {signal} instead" if signal else f"there are {', '.join(known)}"
            raise OptionError(f"task {name}: there is no option {option!r}; {advice}")
    fields = dict(given)
    for option in ("autoretry_for", "dont_autoretry_for"):
        if option in fields:
            given_kinds = fields[option]
            fields[option] = (given_kinds,) if isinstance(given_kinds, type) else tuple(given_kinds)
    options = TaskOptions(**fields)
    check(options, name=name)
    return options


def _registered(app_name: str, name: str) -> BaseTask[Any, Any]:
    from fastq.app.app import find_app

    return find_app(app_name).tasks[name]
