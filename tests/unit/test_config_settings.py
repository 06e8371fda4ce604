"""Settings are declared once, and completely."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from fastq.config import values
from fastq.config.settings import SETTINGS, WorkerOptions, not_yet_effective, variables
from fastq.config.sources import Origin, choose
from fastq.errors import OptionError


def test_every_field_carries_its_declaration() -> None:
    assert set(WorkerOptions.__struct_fields__) - set(SETTINGS) == {"overrides", "unknown", "given"}


def test_no_flag_is_declared_twice() -> None:
    flags = [flag for setting in SETTINGS.values() for flag in setting.flags]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_a_long_flag_and_a_sentence(name: str) -> None:
    setting = SETTINGS[name]
    assert any(flag.startswith("--") for flag in setting.flags)
    assert setting.doc.endswith(".")
    assert not setting.not_yet.endswith(".")


def test_options_travel_as_messagepack() -> None:
    options = WorkerOptions(
        app="proj",
        concurrency="auto",
        autoscale=(10, 3),
        queues=("a", "b"),
        time_limit=1.5,
        disable_prefetch=True,
        overrides={"worker_prefetch_multiplier": "1"},
        given={"app": "--app"},
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(options), type=WorkerOptions) == options


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("app", ("FASTQ_APP", "APP", "CELERY_APP")),
        ("concurrency", ("FASTQ_WORKER_CONCURRENCY", "CELERY_WORKER_CONCURRENCY")),
        ("schedule", ("FASTQ_WORKER_SCHEDULE_FILENAME", "CELERY_WORKER_SCHEDULE_FILENAME")),
        ("workdir", ("FASTQ_WORKDIR", "CELERY_WORKDIR")),
    ],
)
def test_variables_are_ours_first_then_celerys(name: str, expected: tuple[str, ...]) -> None:
    assert variables(name) == expected


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (WorkerOptions(), set()),
        (WorkerOptions(autoscale=(3, 1), given={"autoscale": "--autoscale"}), set()),
        (WorkerOptions(pool_start_method="fork", given={"pool_start_method": "--pool-start-method"}), set()),
        (WorkerOptions(pool_start_method="spawn", given={"pool_start_method": "p"}), {"p"}),
        (WorkerOptions(concurrency=3, given={"concurrency": "--concurrency"}), set()),
    ],
)
def test_only_given_options_without_effect_are_reported(options: WorkerOptions, flags: set[str]) -> None:
    assert set(not_yet_effective(options)) == flags


def test_the_operator_wins_over_the_application_and_the_application_over_the_default() -> None:
    given = WorkerOptions(concurrency=3, given={"concurrency": "environment CELERY_WORKER_CONCURRENCY"})
    ours = choose(given, "concurrency", application=8)
    theirs = choose(WorkerOptions(), "concurrency", application=8)
    nobodys = choose(WorkerOptions(), "loglevel")
    assert (ours.value, ours.origin) == (3, Origin.ENVIRONMENT)
    assert (theirs.value, theirs.where) == (8, "application's worker_concurrency")
    assert (nobodys.value, nobodys.origin) == ("WARNING", Origin.DEFAULT)


def test_a_zero_that_means_let_the_application_decide_lets_it_decide() -> None:
    options = WorkerOptions(concurrency=values.concurrency("0"), given={"concurrency": "--concurrency"})
    assert choose(options, "concurrency", application=8).value == 8


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (values.concurrency, "4", 4),
        (values.concurrency, " AUTO ", "auto"),
        (values.autoscale, "3,10", (10, 3)),
        (values.autoscale, "10", (10, 0)),
        (values.autoscale, "auto", "auto"),
        (values.dead_letters, "retries, unknown", ("retries", "unknown")),
        (values.comma_list, "a, b,,c", ("a", "b", "c")),
        (values.loglevel, "info", "INFO"),
        (values.loglevel, "25", "25"),
        (values.pool, "processes", "processes"),
        (values.seconds, "0.5", 0.5),
        (values.prefetch, "0", None),
        (values.optimization, "fair", "fair"),
        (values.override, "worker.prefetch_multiplier=1", ("worker_prefetch_multiplier", "1")),
        (values.override, ".Concurrency=(int)2", ("worker_concurrency", "(int)2")),
        (values.override, "task_acks_late=a=b", ("task_acks_late", "a=b")),
    ],
)
def test_values_that_can_be_read(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (values.concurrency, "-1"),
        (values.concurrency, "many"),
        (values.autoscale, "1,2,3"),
        (values.autoscale, "-1,2"),
        (values.autoscale, "0"),
        (values.dead_letters, "all"),
        (values.autoscale, ""),
        (values.loglevel, "loud"),
        (values.pool, "gevent"),
        (values.pool, "swimming"),
        (values.seconds, "nan"),
        (values.seconds, "-1"),
        (values.whole, "1.5"),
        (values.optimization, "fast"),
        (values.start_method, "forkserver"),
        (values.override, "nothing"),
        (values.override, "=1"),
    ],
)
def test_values_that_cannot_be_read_are_named(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(text)
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("text", "shown", "private"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080", True),
        ("8080", "127.0.0.1:8080", True),
        ("[::1]:8080", "[::1]:8080", True),
        ("0.0.0.0:9090", "0.0.0.0:9090", False),
        ("unix:/run/w.sock", "unix:/run/w.sock", True),
        ("/run/w.sock", "unix:/run/w.sock", True),
    ],
)
def test_addresses_to_listen_on(text: str, shown: str, private: bool) -> None:
    found = values.listen(text)
    assert (str(found), found.is_private) == (shown, private)


@pytest.mark.parametrize("text", ["", ":8080", "host", "host:", "host:99999", "host:web"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match="address"):
        values.listen(text)


def test_fastqs_own_settings_have_no_variable_of_celerys() -> None:
    assert variables("log_format") == ("FASTQ_WORKER_LOG_FORMAT",)
