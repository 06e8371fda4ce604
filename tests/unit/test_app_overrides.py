"""A native application takes settings from the worker's command line, `-- name=value`, with the casts of Celery's."""

from __future__ import annotations

import pytest

from fastq.app.settings import Settings, read_overrides
from fastq.errors import SettingError


def settings(**given: str) -> Settings:
    made = Settings()
    made.update(read_overrides(given), where="a setting after --", strict=False)
    return made


def test_text_becomes_what_the_setting_is() -> None:
    made = settings(
        worker_prefetch_multiplier="7",
        worker_enable_remote_control="0",
        task_acks_late="true",
        result_expires="2.5",
        broker_transport_options='(dict){"global_keyprefix": "shop:"}',
        task_queues='["orders", "mails"]',
        timezone="Europe/Vienna",
    )
    assert (made.worker_prefetch_multiplier, made.worker_enable_remote_control, made.task_acks_late) == (7, False, True)
    assert (made.result_expires, made.broker_transport_options) == (2.5, {"global_keyprefix": "shop:"})
    assert (made.task_queues, made.timezone) == (["orders", "mails"], "Europe/Vienna")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("worker_prefetch_multiplier", "many", "worker_prefetch_multiplier is 'many'"),
        ("broker_transport_options", "(dict){oops", "broker_transport_options is '{oops', which is no JSON"),
        ("worker_prefetch", "1", "there is no setting 'worker_prefetch'; did you mean"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, text: str, says: str) -> None:
    with pytest.raises(SettingError, match="a setting after --") as caught:
        settings(**{name: text})
    assert says in caught.value.message


def test_in_code_a_value_has_the_type_of_its_setting() -> None:
    with pytest.raises(SettingError):
        Settings().update({"worker_prefetch_multiplier": "7"}, where="FastQ(...)")
