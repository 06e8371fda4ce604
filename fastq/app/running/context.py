"""Which request is carried out here, and what it says of itself."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from fastq.app.running.message import Message, open_message
from fastq.errors import TaskError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from fastq.app.task import BaseTask
    from fastq.program import Door


class Request:
    """One execution of a task: what its message says, and what it has sent."""

    # The dictionary is there for the few requests that send something.
    __slots__ = ("__dict__", "_message", "hostname")

    #: Stored with the result; the compiled runner reads it.
    _children: Any = ()

    def add_child(self, node: Any) -> None:
        """Remember what was sent: `node` has `as_tuple`."""
        self._children = [*self._children, node]

    @property
    def embed(self) -> dict[str, Any]:
        """callbacks, errbacks, chain, chord."""
        return self.message.embed

    #: When progress was stored last, and first.
    _progress: tuple[float, str] = (0.0, "")

    def __init__(self, message: Message, *, hostname: str) -> None:
        self.hostname: str = hostname
        self._message = message

    def __repr__(self) -> str:
        return f"<Request {self.id}>"

    @property
    def message(self) -> Message:
        """The message, opened."""
        return self._message

    @property
    def id(self) -> str:
        """The id of the task."""
        return self.message.header.id

    @property
    def args(self) -> list[Any]:
        """Positional arguments, as they were sent."""
        return self.message.args

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments, as they were sent."""
        return self.message.kwargs

    @property
    def retries(self) -> int:
        """How many attempts there have been before this one."""
        return self.message.header.retries

    @property
    def root_id(self) -> str:
        """The first task of the workflow."""
        return str(self.message.headers.get("root_id") or self.id)

    @property
    def parent_id(self) -> str | None:
        """The task that has sent this one."""
        found = self.message.headers.get("parent_id")
        return None if found is None else str(found)

    @property
    def group(self) -> str | None:
        """The id of the group that this task belongs to."""
        found = self.message.headers.get("group")
        return None if found is None else str(found)

    @property
    def headers(self) -> dict[str, Any]:
        """All headers of the message."""
        return self.message.headers

    @property
    def delivery_info(self) -> dict[str, Any]:
        """exchange, routing_key, priority, redelivered."""
        header = self.message.header
        return {
            "exchange": header.exchange,
            "routing_key": header.routing_key,
            "priority": self.message.properties.get("priority"),
            "redelivered": header.redelivered,
        }

    @property
    def ignore_result(self) -> bool | None:
        """What the message says; None leaves it to the task."""
        return self.message.header.ignore_result


class PlainRequest(Request):
    """The request of a plain task: the compiled runner makes it, and the message is opened at the first look."""

    __slots__ = ("_carried",)

    _carried: Any

    @property
    def message(self) -> Message:
        """The message, opened now if it was not."""
        try:
            return self._message
        except AttributeError:
            self._message = open_message(self._carried.envelope)
            return self._message

    @property
    def embed(self) -> dict[str, Any]:
        """Nothing: what has something that follows is no plain task."""
        return {}

    @property
    def id(self) -> str:
        """The id of the task."""
        return str(self._carried.id)

    @property
    def args(self) -> list[Any]:
        """Positional arguments, as they were sent."""
        found: list[Any] = self._carried.args
        return found

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments, as they were sent."""
        found: dict[str, Any] = self._carried.kwargs
        return found


class Stack:
    """What runs in each thread, innermost last. The compiled runner writes to `storage` by itself."""

    def __init__(self) -> None:
        self.storage: dict[int, dict[str, list[Any]]] = {}

    def push(self, item: Any) -> None:
        """Begin."""
        self.storage.setdefault(threading.get_ident(), {"stack": []})["stack"].append(item)

    def pop(self) -> None:
        """End what has begun last."""
        ident = threading.get_ident()
        entry = self.storage.get(ident)
        if entry is not None and entry["stack"]:
            entry["stack"].pop()
        if entry is not None and not entry["stack"]:
            del self.storage[ident]

    @property
    def top(self) -> Any:
        """What runs in this thread, or None."""
        entry = self.storage.get(threading.get_ident())
        return entry["stack"][-1] if entry is not None and entry["stack"] else None


#: Of threads that run functions.
tasks: Stack = Stack()
requests: Stack = Stack()

#: Of coroutines: each runs in a context of its own.
running: ContextVar[tuple[BaseTask[Any, Any], Request] | tuple[BaseTask[Any, Any], Request, Door] | None] = ContextVar(
    "fastq_running", default=None
)


#: In a child of coroutines: its event loop, for functions that run beside it in a thread.
loop: AbstractEventLoop | None = None


def current() -> tuple[BaseTask[Any, Any], Request] | None:
    """The task that runs here and its request, or None."""
    found = running.get()
    if found is not None:
        return found[0], found[1]
    request = requests.top
    return (tasks.top, request) if request is not None else None


def current_door() -> Door | None:
    """Where the coroutine that runs here stores what it has to say; None outside of one."""
    found = running.get()
    return found[2] if found is not None and len(found) == 3 else None


def running_request() -> Request | None:
    """The request that is carried out here, or None."""
    found = current()
    return found[1] if found else None


def current_task() -> BaseTask[Any, Any] | None:
    """The task that runs here, or None."""
    found = current()
    return found[0] if found else None


def current_request() -> Request:
    """The request that is carried out here. Raises TaskError outside of a task."""
    found = current()
    if found is None:
        raise TaskError("no task runs here: there is a request only while a worker runs a task")
    return found[1]
