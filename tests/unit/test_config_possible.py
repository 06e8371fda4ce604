"""Options that are impossible together end the start with one line."""

from __future__ import annotations

import pytest

from fastq.cli.gather import gather
from fastq.config.possible import no_such_option
from fastq.errors import OptionError


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"concurrency": "257"}, "--concurrency: a worker has 256 children at most, got 257"),
        ({"autoscale": "300,2"}, "--autoscale: a worker has 256 children at most, got 300"),
        ({"max_memory_per_child": "500", "max_memory_hard": "400"}, "Make the hard limit the larger one"),
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, str], says: str) -> None:
    with pytest.raises(OptionError, match=says) as caught:
        gather(flags, environment={})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "flags",
    [
        {"concurrency": "256", "autoscale": "256,1"},
        {"concurrency": "auto", "autoscale": "auto"},
        {"max_memory_per_child": "400", "max_memory_hard": "400"},
        {"max_memory_per_child": "500", "max_memory_hard": "0"},
    ],
)
def test_what_can_be_is_not(flags: dict[str, str]) -> None:
    gather(flags, environment={})


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--concurency=3", "there is no option --concurency=3; did you mean --concurrency?"),
        ("--queue", "did you mean --queues?"),
        ("--nope", "there is no option --nope; see `fastq worker --help`"),
        ("-Z", "there is no option -Z; see `fastq worker --help`"),
    ],
)
def test_only_a_slip_is_taken_for_another_option(flag: str, says: str) -> None:
    assert no_such_option(flag).message.endswith(says)
