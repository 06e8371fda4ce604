"""Who hears of what: receivers of signals that asked for one sender."""

from __future__ import annotations

from typing import Any

import pytest

from fastq import FastQ
from fastq.app.signals import Signal
from fastq.errors import OptionError

app = FastQ("signals")


@app.task
def mine() -> None: ...


@app.task
def other() -> None: ...


class InItsPlace:
    """What the compiled runner sends in place of a task."""

    name = mine.name


@pytest.mark.parametrize(
    ("wanted", "sender", "heard"),
    [
        (mine, mine, True),
        (mine, InItsPlace(), True),
        (mine, mine.name, True),
        (mine.name, mine, True),
        (mine, other, False),
        (mine.name, other, False),
        (mine, None, False),
        (app, app, True),
        (None, other, True),
    ],
)
def test_a_receiver_of_one_sender_hears_of_whatever_stands_for_it(wanted: Any, sender: Any, heard: bool) -> None:
    found: list[Any] = []

    def receiver(*, sender: Any, **_fields: Any) -> None:
        found.append(sender)

    signal = Signal("test")
    signal.connect(receiver, sender=wanted)
    signal.send(sender)
    assert found == ([sender] if heard else [])


def test_a_uid_connects_once_whatever_function_comes_with_it() -> None:
    heard: list[str] = []
    signal = Signal("test")
    for name in ("one", "two"):
        signal.connect(lambda name=name, **_fields: heard.append(name), weak=False, dispatch_uid="u")
    signal.connect(lambda **_fields: heard.append("mine"), weak=False, sender=mine, dispatch_uid="u")
    signal.send(mine)
    assert heard == ["one", "mine"]
    assert (signal.disconnect(dispatch_uid="u"), signal.disconnect(dispatch_uid="u")) == (True, False)
    assert (signal.disconnect(print), signal.disconnect(sender=mine, dispatch_uid="u")) == (False, True)
    assert signal.receivers == []


def test_a_function_is_connected_once_for_each_sender_and_uid() -> None:
    signal = Signal("test")
    for _ in range(2):
        signal.connect(print)
        signal.connect(print, sender=mine)
        signal.connect(sender=mine, weak=False, dispatch_uid="u")(print)
    assert len(signal.receivers) == 3
    assert signal.disconnect(print, sender=mine)
    assert signal.receivers == [(print, None, None), (print, mine, "u")]


def test_a_receiver_that_would_go_away_by_itself_is_refused() -> None:
    signal = Signal("test")
    with pytest.raises(OptionError, match="weak=True: receivers of test are held"):
        signal.connect(print, weak=True)  # type: ignore[call-overload]
    with pytest.raises(OptionError, match="is to be a function, not 'add'"):
        signal.connect("add")  # type: ignore[call-overload]
