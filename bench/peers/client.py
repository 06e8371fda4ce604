"""The sender's side of a system, in a process of its own: sends and waits as that system's library does.

    python -m bench.peers.client bench.peers.apps.rq

It takes one JSON object per line, {"do": NAME, ...}, and answers each with one, {"found": ...} or {"error": ...}. Times
are of the monotonic clock, which all processes of a machine share: a ledger's starts can be set against them.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

#: Seconds one call, or one set of calls, may take.
CALL_S = 60.0

#: Seconds a chain, group or chord may take.
WORKFLOW_S = 180.0

#: Messages of an open loop that are due at the same moment go out together, at most so many.
TOGETHER = 500


class Client(Protocol):
    """How a system is sent to. A client has more methods for what its system can do: see `Peer.can`."""

    def fill(self, task: str, numbers: Sequence[int], *args: Any) -> None:
        """Send many, the fastest way that the library has."""

    def send(self, task: str, number: int, *args: Any) -> Any:
        """Send one as an application does; return what `wait` takes."""

    def wait(self, handle: Any, timeout_s: float) -> Any:
        """Return the result."""


class Host:
    """What can be asked for: a method of this class for each `do`."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def cleared(self) -> None:
        """Redis has been emptied: what a client makes there once, it makes again."""
        getattr(self.client, "cleared", lambda: None)()

    def fill(self, task: str, start: int, count: int, args: list[Any]) -> float:
        """Send `count` numbers fast; return seconds."""
        began = time.monotonic()
        self.client.fill(task, range(start, start + count), *_inflated(args))
        return time.monotonic() - began

    def send_many(self, task: str, start: int, count: int, args: list[Any]) -> float:
        """Send `count` numbers the fastest way that an application of this system has; return seconds."""
        began = time.monotonic()
        getattr(self.client, "send_many", self.client.fill)(task, range(start, start + count), *args)
        return time.monotonic() - began

    def send(self, task: str, start: int, count: int, args: list[Any]) -> float:
        """Send `count` numbers one at a time; return seconds."""
        began = time.monotonic()
        for number in range(start, start + count):
            self.client.send(task, number, *args)
        return time.monotonic() - began

    def fill_async(self, task: str, start: int, count: int, args: list[Any]) -> float:
        """Send `count` numbers by the asynchronous library; return seconds."""
        began = time.monotonic()
        self.client.fill_async(task, range(start, start + count), *args)
        return time.monotonic() - began

    def fill_later(self, task: str, start: int, count: int, args: list[Any], due: float) -> float:
        """Send `count` numbers fast that are not to run before `due` (of the monotonic clock); return seconds."""
        began = time.monotonic()
        self.client.fill_later(task, range(start, start + count), due, *args)
        return time.monotonic() - began

    def fill_last(self, task: str, start: int, count: int, args: list[Any]) -> None:
        """Send `count` numbers fast, as less urgent than what `urgent` sends."""
        getattr(self.client, "fill_last", self.client.fill)(task, range(start, start + count), *args)

    def urgent(self, task: str, start: int, count: int, args: list[Any]) -> list[float]:
        """Send `count` numbers with the highest priority, 20 ms apart; return when each was sent."""
        sent = []
        for number in range(start, start + count):
            sent.append(time.monotonic())
            self.client.urgent(task, number, *args)
            time.sleep(0.02)
        return sent

    def calls(self, start: int, count: int) -> list[float]:
        """Send one and wait for its result, again and again; return seconds of each."""
        return [self._call(number) for number in range(start, start + count)]

    def _call(self, number: int) -> float:
        began = time.perf_counter()
        self._check(number, self.client.wait(self.client.send("stored", number), CALL_S))
        return time.perf_counter() - began

    def calls_together(self, start: int, sets: int, each: int) -> list[float]:
        """Have `each` calls in flight: send them one by one, then wait for all; return seconds of each set."""
        taken = []
        for first in range(start, start + sets * each, each):
            began = time.perf_counter()
            handles = [self.client.send("stored", number) for number in range(first, first + each)]
            for number, found in zip(range(first, first + each), self._wait_all(handles), strict=True):
                self._check(number, found)
            taken.append(time.perf_counter() - began)
        return taken

    def _wait_all(self, handles: list[Any]) -> list[Any]:
        together = getattr(self.client, "wait_all", None)
        return together(handles, CALL_S) if together else [self.client.wait(handle, CALL_S) for handle in handles]

    @staticmethod
    def _check(number: int, found: Any) -> None:
        if found != number:
            raise RuntimeError(f"the result of {number} came back as {found!r}")

    def echo(self, start: int, count: int, size: int) -> list[float]:
        """Send `size` bytes and wait until they come back, again and again; return seconds of each."""
        data, taken = "x" * size, []
        for number in range(start, start + count):
            began = time.perf_counter()
            if self.client.wait(self.client.send("blob", number, data), CALL_S) != data:
                raise RuntimeError(f"the data of {number} came back changed")
            taken.append(time.perf_counter() - began)
        return taken

    def chain(self, start: int, count: int, length: int) -> list[float]:
        """Run chains of `length` links one after the other; return seconds of each."""
        return [self._timed("chain", length, start + turn * length, expected=length) for turn in range(count)]

    def group(self, start: int, count: int) -> float:
        """Run a group of `count` and wait for all of its results; return seconds."""
        return self._timed("group", count, start, expected=list(range(start, start + count)))

    def chord(self, start: int, count: int) -> float:
        """Run a chord of `count` and a body, and wait for the body's result; return seconds."""
        return self._timed("chord", count, start, expected=sum(range(start, start + count)))

    def _timed(self, what: str, size: int, start: int, *, expected: Any) -> float:
        began = time.perf_counter()
        found = getattr(self.client, what)(size, start, WORKFLOW_S)
        if found != expected:
            raise RuntimeError(f"a {what} of {size} returned {str(found)[:100]} instead of {str(expected)[:100]}")
        return time.perf_counter() - began

    def open_loop(self, task: str, start: int, rate: float, seconds: float) -> dict[str, float]:
        """Send a task at a steady pace."""
        return self._steadily(lambda numbers: self._send(task, numbers), start, rate, seconds)

    def open_mix(self, start: int, rate: float, seconds: float, one_in: int, long_s: float, short_s: float) -> Any:
        """The same with naps, of which one in `one_in` is long."""
        return self._steadily(lambda numbers: self._nap(numbers, one_in, long_s, short_s), start, rate, seconds)

    def _nap(self, numbers: range, one_in: int, long_s: float, short_s: float) -> None:
        for number in numbers:
            self.client.send("nap", number, short_s if number % one_in else long_s)

    @staticmethod
    def _steadily(send: Callable[[range], None], start: int, rate: float, seconds: float) -> dict[str, float]:
        """Send at a steady pace that does not wait for anybody. Number n is planned for `began + (n - start) / rate`.

        What is due when the sender comes to it goes out at once; `late` is the longest that a message was sent behind
        its plan. Latency counts from the plan, so a sender that is held up hides nothing.
        """
        count, began, sent, late = int(rate * seconds), time.monotonic() + 0.01, 0, 0.0
        while sent < count:
            passed = time.monotonic() - began
            due = min(count, int(passed * rate) + 1, sent + TOGETHER) if passed >= 0 else 0
            if due <= sent:
                time.sleep(max(0.0, sent / rate - passed))
                continue
            late = max(late, passed - sent / rate)
            send(range(start + sent, start + due))
            sent = due
        return {"began": began, "count": count, "late": late}

    def _send(self, task: str, numbers: range) -> None:
        if len(numbers) == 1:
            self.client.send(task, numbers[0])
        else:
            self.client.fill(task, numbers)


def _inflated(args: list[Any]) -> list[Any]:
    """{"bytes": n} stands for a text of so many bytes."""
    return ["x" * one["bytes"] if isinstance(one, dict) else one for one in args]


def main() -> None:
    """Answer until the end of standard input."""
    # Whatever the library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    host = Host(importlib.import_module(sys.argv[1]).client())
    print(json.dumps({"found": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            found = {"found": getattr(host, asked.pop("do"))(**asked)}
        except Exception as exc:  # told to the bench, which records it
            found = {"error": f"{type(exc).__name__}: {exc}"}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
