"""The two applications of docs/guide/from-celery.md do the same, and the guide quotes them."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import _state, signals

from tests.fix_lab import RESULT_S, Lab
from tests.fix_worker import ROOT

GUIDE = ROOT / "docs" / "guide" / "from-celery.md"
VERSIONS = ("examples.orders.with_celery", "examples.orders.native")


def flat(text: str) -> str:
    """Code without annotations of arguments, blanks and lines: the guide shows Celery's bare."""
    return re.sub(r"\s+", " ", text)


def test_the_guide_quotes_the_examples() -> None:
    sources = [flat(Path(ROOT, *name.split(".")).with_suffix(".py").read_text()) for name in VERSIONS]
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.S)
    assert len(blocks) > 8
    for block in blocks:
        assert any(flat(block).strip() in source for source in sources), block


@pytest.mark.fastq_only
@pytest.mark.parametrize("module", VERSIONS)
def test_both_do_the_same(lab: Lab, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setenv("ORDERS_REDIS", lab.db.url)
    # Celery gives the tasks of one application to every other of the process, and takes the last for the current one.
    monkeypatch.setattr(_state, "_on_app_finalizers", set())
    monkeypatch.setattr(_state._tls, "current_app", _state._tls.current_app)
    monkeypatch.setattr(signals.task_failure, "receivers", [])
    monkeypatch.delitem(sys.modules, module, raising=False)
    shop: Any = importlib.import_module(module)
    worker = lab.worker("-Q", "celery,shipping", app=module, env={"ORDERS_REDIS": lab.db.url})
    try:
        assert shop.place(7, ["tea", "pot"]).get(RESULT_S) == "order 7 with 2 articles after 3 attempts"
        assert shop.value(["tea", "pot", "cups"]).get(RESULT_S) == 10
        assert shop.urgent_report().get(RESULT_S) == "urgent report"
        shop.price.apply_async((7,))
        assert worker.wait_log(r"ALERT: orders\.price\[.*\] failed: ")
    finally:
        shop.app.close()
