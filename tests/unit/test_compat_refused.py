"""What an application or a command line asks for and cannot have is said in one line, before anything is begun."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery

from fastq import FastQ
from fastq.app.program import NativeProgram
from fastq.cli.worker import _loaded
from fastq.compat.celery.worker import _override_settings, warnings_about
from fastq.config.settings import WorkerOptions
from fastq.errors import OptionError, SettingError, UrlError
from fastq.program import ProgramInfo


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("worker_nosuch", "1", "worker_nosuch=1 after -- cannot be used: Celery has no setting worker_nosuch; docs/"),
        ("foo", "1", "Celery has no setting foo"),
        ("worker_concurency", "2", "did you mean worker_concurrency?"),
        ("worker_prefetch_multiplier", "x", "worker_prefetch_multiplier=x after -- cannot be used: "),
    ],
)
def test_a_setting_that_cannot_be_is_named(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingError) as caught:
        _override_settings(Celery("x"), WorkerOptions(), {name: value})
    assert says in caught.value.message


def test_settings_that_can_be_are_taken() -> None:
    app = Celery("x")
    _override_settings(app, WorkerOptions(), {"worker_prefetch_multiplier": "3", "result_own": "(int)4"})
    assert (app.conf.worker_prefetch_multiplier, app.conf.result_own) == (3, 4)


def test_a_worker_without_a_queue_says_so() -> None:
    app, worker = Celery("x"), SimpleNamespace(blueprint=SimpleNamespace(ignored=[]))
    assert not any("queue" in line for line in warnings_about(app, worker))
    app.amqp.queues.deselect("celery")
    app.amqp.queues.consume_from.clear()
    assert any("no queue is left to consume" in line for line in warnings_about(app, worker))


def test_a_broker_that_is_no_redis_is_refused_instead_of_a_banner(capsys: pytest.CaptureFixture[str]) -> None:
    program = ProgramInfo(app_name="x", loader="", node="w@h", broker_urls=["amqp://"], queues=[], tasks=[])
    with pytest.raises(UrlError, match=r"'amqp'.* or give -b redis://") as caught:
        _loaded(SimpleNamespace(), WorkerOptions(), program)  # type: ignore[arg-type]
    assert (capsys.readouterr().out, caught.value.exit_code) == ("", 2)


def test_a_native_application_has_no_options_of_its_own() -> None:
    with pytest.raises(OptionError, match="there is no option --nope"):
        NativeProgram(FastQ("x")).load(WorkerOptions(unknown=("--nope", "5")))
