"""The numbers for code without the core are the core's."""

from __future__ import annotations

from fastq import _core, frames


def test_the_numbers_are_the_cores() -> None:
    numbers = {name: value for name, value in vars(frames).items() if name.isupper()}
    assert numbers == {name: getattr(_core, name) for name in numbers}
    assert len(numbers) == 12
