"""Who hears of what: receivers of signals that asked for one sender."""

from __future__ import annotations

from typing import Any

import pytest

from fastq import FastQ
from fastq.app.signals import Signal

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
