"""The tree in the docstring is the tree in the code."""

from __future__ import annotations

import inspect
import re

import pytest

from fastq import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


def drawn() -> dict[str, str]:
    """Class to parent, as drawn."""
    stack: list[tuple[int, str]] = []
    parents: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"(    [│ ├└─]*)([A-Z][A-Za-z]+)(?:  |$)", line)
        if match is None:
            continue
        depth, name = len(match.group(1)), match.group(2)
        stack = [entry for entry in stack if entry[0] < depth]
        parents[name] = stack[-1][1] if stack else "Exception"
        stack.append((depth, name))
    return parents


def test_the_drawn_tree_is_the_real_one() -> None:
    assert drawn() == {each.__name__: each.__bases__[0].__name__ for each in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_what_it_is_for(kind: type[errors.FastqError]) -> None:
    assert kind.__doc__


def test_evidence_is_kept_and_shown_in_short() -> None:
    error = errors.EnvelopeError("no message on 'celery'", raw=b"x" * 10_000)
    assert error.evidence == {"raw": b"x" * 10_000}
    assert str(error) == "no message on 'celery'"
    assert "raw=b'xxx" in repr(error)
    assert len(repr(error)) < 400


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.OptionError, 2),
        (errors.ApplicationError, 2),
        (errors.PidfileHeld, 73),
        (errors.BrokerRefused, 1),
        (errors.RingBroken, 70),
    ],
)
def test_exit_codes(kind: type[errors.FastqError], code: int) -> None:
    assert kind.exit_code == code
