"""An application that counts Celery's signals itself counts the same as under `celery worker`."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.apm import agents
from tests.apm.agents import prometheus
from tests.apm.test_agents import go_through_everything
from tests.fix_lab import Lab

pytestmark = [
    pytest.mark.fastq_only,
    pytest.mark.skipif(
        bool(agents.missing(prometheus)), reason="prometheus-client not installed: `make apm` brings it"
    ),
]


def count(lab: Lab, *, engine: str) -> Counter[str]:
    """The counts of one engine after one task of each kind."""
    folder = lab.folder / "metrics"
    folder.mkdir()
    lab.use("tests.apm.app")
    env = {"FASTQ_TEST_AGENT": "prometheus", "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    worker = lab.worker(engine=engine, env=env)
    go_through_everything(lab)
    worker.stop()
    return prometheus.counted(folder)


def test_signals_are_counted_as_under_celery(lab: Lab, other_lab: Lab) -> None:
    ours, theirs = count(lab, engine="fastq"), count(other_lab, engine="celery")
    assert ours == theirs
    assert ours["task_failure t.fail"] == 1
