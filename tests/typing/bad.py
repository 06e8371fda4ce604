"""What type checkers must refuse. Each line says what mypy and pyright call it; see `test_typing.py`."""

from __future__ import annotations

from fastq import FastQ, Task, chain, signals

app = FastQ("typed")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(bind=True)
def bound(self: Task[[int], str], number: int) -> str:
    return str(number)


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


add.delay("x")  # mypy: arg-type; pyright: reportArgumentType
add.delay()  # mypy: call-arg; pyright: reportCallIssue
add.delay(1, 2, 3)  # mypy: call-arg; pyright: reportCallIssue
add.delay(1, z=2)  # mypy: call-arg; pyright: reportCallIssue
add("x")  # mypy: arg-type; pyright: reportArgumentType
text: str = add.delay(1).get()  # mypy: assignment; pyright: reportAssignmentType
add.delay(1).get("soon")  # mypy: call-overload; pyright: reportArgumentType
add.delay(1).get(timeout_s=3)  # mypy: call-overload; pyright: reportCallIssue
either: int = add.delay(1).get(propagate=False)  # mypy: assignment; pyright: reportAssignmentType
bound.delay("x")  # mypy: arg-type; pyright: reportArgumentType
bound.delay(1, 2)  # mypy: call-arg; pyright: reportCallIssue
fetch.delay(1)  # mypy: arg-type; pyright: reportArgumentType
value: bytes = fetch("x")  # mypy: assignment; pyright: reportAssignmentType
add.apply_async((1,), contdown=3)  # mypy: call-arg; pyright: reportCallIssue
add.apply_async((1,), countdown="soon")  # mypy: arg-type; pyright: reportArgumentType
add.apply_async(1)  # mypy: arg-type; pyright: reportArgumentType

add.si("x")  # mypy: arg-type; pyright: reportArgumentType
add.s(1).set(contdown=3)  # mypy: call-arg; pyright: reportCallIssue
chain(add.s(1), add.s(2)).apply_async(contdown=3)  # mypy: call-arg; pyright: reportCallIssue
words: str = chain(add.s(1), add.s(2)).delay().get()  # mypy: assignment; pyright: reportAssignmentType


async def in_a_loop() -> None:
    await add.adelay("x")  # mypy: arg-type; pyright: reportArgumentType
    number: str = await (await add.adelay(1)).get()  # mypy: assignment; pyright: reportAssignmentType
    print(number)


@app.task(max_retrys=3)  # mypy: call-overload; pyright: reportCallIssue
def misspelt() -> None: ...


@app.task(acks_late="yes")  # mypy: call-overload; pyright: reportArgumentType
def wrong_type() -> None: ...


@app.task(typing=None)  # mypy: call-overload; pyright: reportArgumentType
def unchecked() -> None: ...


@app.task(max_running="3")  # mypy: call-overload; pyright: reportArgumentType
def bounded() -> None: ...


signals.task_success.connect(print, weak=True)  # mypy: call-overload; pyright: reportArgumentType

FastQ("typed", wire="json")  # mypy: arg-type; pyright: reportArgumentType

app.every("10", "typed.tick")  # mypy: call-overload; pyright: reportArgumentType
