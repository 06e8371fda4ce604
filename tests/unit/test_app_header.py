"""Arguments that a task's function does not take are refused where it is sent, in the words of Python itself."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from fastq import FastQ, chain, chord, group
from fastq.app.header import anything, header_of
from fastq.errors import BrokerError


def plain(x: int, y: int = 2) -> None: ...
def named(x: int, *, y: int, z: int = 3) -> None: ...
def only_named(*, y: int) -> None: ...
def rest(x: int, *more: int, y: int = 0, **others: int) -> None: ...
def by_place(x: int, y: int = 0, /) -> None: ...
def both(x: int, /, y: int, *, z: int = 0) -> None: ...
def none() -> None: ...
async def coroutine(x: int) -> None: ...
def odd(head: int, annotations: int = 0) -> None: ...


class Callee:
    def __call__(self, x: int) -> None: ...


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3), {}),
    ((), {"x": 1}),
    ((), {"y": 1}),
    ((1,), {"x": 1}),
    ((1,), {"y": 1}),
    ((1,), {"y": 1, "z": 2}),
    ((1, 2), {"z": 2}),
    ((1,), {"q": 1}),
]


def says(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    try:
        found = function(*args, **kwargs)
        if asyncio.iscoroutine(found):
            found.close()
    except TypeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "function",
    [plain, named, only_named, rest, by_place, both, none, coroutine, odd, Callee(), lambda x: x],
    ids=lambda function: getattr(function, "__name__", "callee"),
)
def test_the_head_of_a_function_refuses_what_the_function_refuses(function: Callable[..., Any]) -> None:
    head = header_of(function)
    for args, kwargs in CALLS:
        if isinstance(function, Callee):  # Python counts its self
            assert bool(says(head, args, kwargs)) == bool(says(function, args, kwargs))
        else:
            assert says(head, args, kwargs) == says(function, args, kwargs)


def test_a_wrapper_may_give_arguments_of_its_own() -> None:
    @functools.wraps(plain)
    def giving(*args: Any, **kwargs: Any) -> None:
        plain(1, *args, **kwargs)

    @functools.wraps(plain)
    def narrow(y: int) -> None:
        plain(1, y)

    assert says(header_of(giving), (), {}) == ""
    assert "plain() missing 1 required positional argument: 'y'" in says(header_of(narrow), (), {})


def test_what_tells_nothing_of_its_parameters_takes_anything() -> None:
    assert header_of(max) is anything
    assert says(anything, (1, 2), {"x": 1}) == ""


# No broker is there: what is refused before anything is sent is a TypeError, what is not refused a BrokerError.
app = FastQ("headed", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(bind=True)
def bound(self: Any, x: int) -> int:
    return x


@app.task(typing=False)
def loose(x: int) -> int:
    return x


@app.task
async def awaited(x: int) -> int:
    return x


REFUSED: list[Any] = [
    lambda: add.delay(1),  # type: ignore[call-arg]
    lambda: add.delay(1, 2, 3),  # type: ignore[call-arg]
    lambda: add.delay(1, z=2),  # type: ignore[call-arg]
    lambda: add.apply_async((1,)),
    lambda: add.apply_async([1, 2], {"y": 2}),
    lambda: add.apply_async((1,), {1: 2}),  # type: ignore[dict-item]
    lambda: bound.delay(),  # type: ignore[call-arg]
    lambda: bound.apply_async((1,), {"self": 2}),
    lambda: add.s(1).delay(),
    lambda: add.s(1, 2).delay(3),
    lambda: group(add.s(1, 2), add.s(1)).delay(),
    lambda: chain(add.s(1), add.s(2)).delay(),
    lambda: chord([add.s(1)], loose.s()).delay(),
    lambda: asyncio.run(awaited.adelay()),  # type: ignore[call-arg]
    lambda: add.delay_on_commit(1),  # type: ignore[call-arg]
]
SENT: list[Any] = [
    lambda: add.delay(1, y=2),
    lambda: bound.delay(1),
    lambda: loose.delay(1, 2, 3),  # type: ignore[call-arg]
    lambda: add.s(1).delay(2),
    lambda: chain(add.s(1, 2), add.s(1, 2, 3)).delay(),
    lambda: app.send_task(add.name, (1,)),
    lambda: asyncio.run(awaited.adelay(1)),
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a broker that is not there."""
    monkeypatch.setattr("fastq.producer.producer.RETRIES", 0)


@pytest.mark.parametrize("send", REFUSED)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(send: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"(add|bound|awaited)\(\) |keywords must be strings"):
        send()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("send", SENT)
def test_arguments_that_fit_or_nobody_knows_are_sent(send: Callable[[], Any]) -> None:
    with pytest.raises(BrokerError):
        send()


def test_what_are_no_arguments_at_all_is_said_so() -> None:
    with pytest.raises(TypeError, match="task arguments must be a list or a tuple, not 'ab'"):
        add.apply_async("ab")
    with pytest.raises(TypeError, match="task arguments must be a list or a tuple, not 1"):
        add.apply_async(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"named task arguments must be a mapping, not \[1\]"):
        add.apply_async((1,), [1])  # type: ignore[arg-type]
