"""The metrics page is OpenMetrics, says what was counted, and is what dashboards and documentation speak of."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from fastq import _core
from fastq.monitor.openmetrics import render
from fastq.monitor.snapshot import Child, Queue, Running, Runs, Snapshot

DOCS = Path(__file__).parents[2] / "docs" / "operate"


def runs(task: str, **ends: int) -> Runs:
    found = dict.fromkeys(("succeeded", "failed", "retried", "ignored", "rejected", "discarded"), 0)
    steps = [sum(ends.values()), *([0] * (len(_core.RUN_STEPS_S) - 1))]
    return Runs(
        task=task, ends=found | ends, verdicts=dict.fromkeys(_core.VERDICTS, 0) | {"lost": 1}, spent_s=0.5, steps=steps
    )


def snapshot(**changes: Any) -> Snapshot:
    facts: dict[str, Any] = {
        "worker": "w1@host-12345678",
        "node": "w1@host",
        "pid": 10,
        "state": "running",
        "live": "",
        "ready": "",
        "started": "",
        "at": 1.0,
        "silent_s": 0.25,
        "uptime_s": 3.5,
        "figures": dict.fromkeys(_core.FIGURES, 1) | {"nursery_pid": 11},
        "children": [
            Child(slot=0, pid=12, state="busy", executed=3, running=Running(task="t.a", id="1", for_s=2.0)),
            Child(slot=1, pid=13, state="idle", executed=0),
        ],
        "tasks": [runs("t.a", succeeded=3, failed=1), runs('odd"name\\\n', succeeded=1)],
        "queues": [
            Queue(
                queue="celery",
                claimed=5,
                started=4,
                settled=3,
                length=7,
                looked_s=0.5,
                waited_s=0.1,
                steps=[4, *([0] * (len(_core.WAIT_STEPS_S) - 1))],
            )
        ],
        "for_slot": {"t.a": 2, "t.b": 0},
    }
    return Snapshot(**facts | changes)


def page(found: Snapshot | None = None) -> str:
    return render(found or snapshot(), version="1", python="3", memory={10: 1000, 12: 2000})


def parsed(text: str) -> dict[str, Any]:
    families: Any = text_string_to_metric_families(text)
    return {family.name: family for family in families}


def value(families: dict[str, Any], name: str, **labels: str) -> float:
    [found] = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return float(found)


def test_prometheus_reads_it() -> None:
    families = parsed(page())
    assert value(families, "fastq_tasks_total", task="t.a", end="succeeded") == 3
    assert value(families, "fastq_tasks_total", task="t.a", end="lost") == 1
    assert value(families, "fastq_task_run_seconds_count", task="t.a") == 4
    assert value(families, "fastq_task_run_seconds_bucket", task="t.a", le="0.001") == 4
    assert value(families, "fastq_queue_length", queue="celery") == 7
    assert value(families, "fastq_tasks_waiting_for_slot", task="t.a") == 2
    assert value(families, "fastq_tasks_waiting_for_slot", task="t.b") == 0
    assert value(families, "fastq_children", state="busy") == 1
    assert value(families, "fastq_memory_bytes", process="child", slot="1") == 2000
    assert value(families, "fastq_up") == 1


def test_names_of_tasks_may_hold_anything() -> None:
    assert value(parsed(page()), "fastq_tasks_total", task='odd"name\\\n', end="succeeded") == 1


def test_a_worker_that_has_done_nothing_has_a_valid_page() -> None:
    parsed(page(snapshot(tasks=[], queues=[], children=[])))


def test_a_histogram_never_holds_more_than_its_count() -> None:
    ahead = runs("t.a", succeeded=3)
    ahead.steps[1] += 2  # as read while a child was counting
    assert value(parsed(page(snapshot(tasks=[ahead]))), "fastq_task_run_seconds_bucket", le="+Inf") == 3


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "prometheus-alerts.yml"])
def test_dashboard_and_alerts_speak_of_what_there_is(name: str) -> None:
    text = (DOCS / name).read_text()
    if name.endswith(".json"):
        text = "\n".join(target["expr"] for panel in json.loads(text)["panels"] for target in panel.get("targets", ()))
    known = {sample.name for family in parsed(page()).values() for sample in family.samples}
    used = set(re.findall(r"\bfastq_\w+", text))
    assert used
    assert used <= known, used - known


def test_every_metric_is_documented_and_nothing_else() -> None:
    text = (DOCS / "probes-and-metrics.md").read_text().split("## Metrics")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(fastq_\w+)`", text, re.MULTILINE))
    assert documented == set(parsed(page()))
