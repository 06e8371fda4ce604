"""What monitoring agents put in place of Celery's functions is recognised, however well it imitates them."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from celery.app import trace
from celery.backends.redis import RedisBackend

from fastq.compat.celery import fast, results


class Transparent:
    """Answers everything as what it wraps does, its class included: so do New Relic's and wrapt's wrappers."""

    def __init__(self, wrapped: Any) -> None:
        vars(self)["wrapped"] = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["wrapped"], name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return vars(self)["wrapped"](*args, **kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(vars(self)["wrapped"])


def test_celerys_own_tracer_is_known() -> None:
    assert fast._tracer_is_celerys()


def test_a_wrapped_tracer_is_not_celerys(monkeypatch: pytest.MonkeyPatch) -> None:
    imitation = Transparent(trace.build_tracer)
    assert imitation.__code__ is trace.build_tracer.__code__
    monkeypatch.setattr(trace, "build_tracer", imitation)
    assert not fast._tracer_is_celerys()


@pytest.mark.parametrize("wrap", [Transparent, lambda method: functools.wraps(method)(lambda *args: method(*args))])
def test_a_result_store_with_a_wrapped_method_stores_by_itself(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert results._is_celerys(RedisBackend, "store_result")
    monkeypatch.setattr(RedisBackend, "store_result", wrap(RedisBackend.store_result))
    assert not results._is_celerys(RedisBackend, "store_result")
