"""A real nursery with real children, driven over its link."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fastq import _core
from fastq.ipc.messages import Failed, Ready
from tests.core.task_ring import envelope
from tests.eventually import eventually
from tests.nursery_lab import APPLICATION, NurseryLab


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[NurseryLab]:
    lab = NurseryLab(tmp_path)
    yield lab
    lab.close()


def signals_told(lab: NurseryLab) -> list[str]:
    return [line.split()[1] for line in lab.told if line.startswith("signal")]


def test_signals_come_in_celerys_order(nursery: NurseryLab) -> None:
    ready = nursery.start()
    assert isinstance(ready, Ready), ready
    begin = ["import_modules", "celeryd_init", "worker_init", "after_setup_logger", "celeryd_after_setup"]
    assert signals_told(nursery) == begin
    nursery.notify("worker_ready")
    nursery.fork()
    exited = nursery.leave()
    assert (os.WIFEXITED(exited.status), os.waitstatus_to_exitcode(exited.status)) == (True, 0)
    nursery.notify("worker_shutting_down", sig="SIGTERM", how="Warm", exitcode=0)
    assert nursery.stop() == 0
    assert signals_told(nursery)[5:] == [
        "worker_ready",
        "worker_process_init",
        "worker_process_shutdown",
        "worker_shutting_down",
        "worker_shutdown",
    ]
    assert [line.split()[3] for line in nursery.told if "worker_process" in line] == ["child", "child"]


def test_what_the_engine_learns(nursery: NurseryLab) -> None:
    ready = nursery.start(concurrency=3, queues=("a", "b"), time_limit=9.0, max_tasks_per_child=5)
    assert isinstance(ready, Ready)
    program = ready.program
    assert program.node == "w1@lab"
    assert [queue.name for queue in program.queues] == ["a", "b"]
    assert (program.concurrency, program.max_tasks_per_child, program.time_limit) == (3, 5, 9.0)
    assert {task.time_limit for task in program.tasks} == {9.0}
    assert "t.tell" in nursery.names
    assert "celery.chord_unlock" in nursery.names
    assert program.results.kind == "other"
    assert program.broker_urls == ["memory://localhost//"] or program.broker_urls == ["memory://"]


def test_a_child_runs_tasks_and_is_replaced(nursery: NurseryLab) -> None:
    nursery.start()
    first = nursery.fork()
    nursery.put(envelope("t.tell", ["one"]), "t.tell")
    eventually(lambda: f"task one {first}" in nursery.told)
    os.kill(first, signal.SIGKILL)
    exited = nursery.exited()
    assert (exited.slot, exited.pid, os.WTERMSIG(exited.status)) == (0, first, signal.SIGKILL)
    assert exited.maxrss_kib > 1000


def test_a_task_that_exits_is_told_and_the_child_leaves(nursery: NurseryLab) -> None:
    nursery.start()
    nursery.fork()
    nursery.put(envelope("t.leave", [3]), "t.leave", late=True)
    exited = nursery.exited()
    assert os.waitstatus_to_exitcode(exited.status) == 3
    assert [answer.outcome for answer in nursery.ring.answers()] == [_core.ACK]
    assert "Worker exited prematurely: exitcode 3" in nursery.errors


def test_termination_runs_finally_blocks_and_settles_nothing(nursery: NurseryLab) -> None:
    nursery.start()
    pid = nursery.fork()
    nursery.put(envelope("t.nap", [30]), "t.nap", late=True)
    eventually(lambda: nursery.ring.peek()["started"] == 1)
    time.sleep(0.1)  # into the task's sleep
    os.kill(pid, signal.SIGTERM)
    nursery.exited()
    assert "woke" in nursery.told
    assert nursery.ring.answers() == []
    assert nursery.ring.peek()["done"] == 0


def test_a_child_leaves_after_its_number_of_tasks(nursery: NurseryLab) -> None:
    nursery.start()
    nursery.fork(max_tasks=2)
    for word in ("one", "two", "three"):
        nursery.put(envelope("t.tell", [word]), "t.tell")
    exited = nursery.exited()
    assert os.waitstatus_to_exitcode(exited.status) == 155
    assert [line.split()[1] for line in nursery.told if line.startswith("task")] == ["one", "two"]
    assert nursery.ring.segment.state(0) == _core.RETIRING


def test_exit_hooks_of_a_child_run_and_inherited_ones_do_not(nursery: NurseryLab) -> None:
    nursery.start()
    nursery.fork()
    nursery.put(envelope("t.hook"), "t.hook")
    nursery.leave()
    assert "exit-hook" in nursery.told
    assert "inherited-hook child" not in nursery.told


def test_children_die_with_the_nursery(nursery: NurseryLab) -> None:
    nursery.start()
    pid = nursery.fork()
    nursery.process.kill()
    nursery.process.wait()
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_the_nursery_ends_when_the_engine_is_gone(nursery: NurseryLab) -> None:
    nursery.start()
    pid = nursery.fork()
    nursery.link.close()
    nursery.process.wait(10)
    eventually(lambda: not psutil.pid_exists(pid))


def test_interrupts_are_the_engines_business(nursery: NurseryLab) -> None:
    nursery.start()
    pid = nursery.fork()
    for target in (nursery.process.pid, pid):
        os.kill(target, signal.SIGINT)
    nursery.put(envelope("t.tell", ["still"]), "t.tell")
    eventually(lambda: f"task still {pid}" in nursery.told)


@pytest.mark.parametrize("fast", ["0", "1"])
def test_both_ways_in_a_real_child(tmp_path: Path, fast: str) -> None:
    lab = NurseryLab(tmp_path, FASTQ_FAST=fast)
    lab.start()
    pid = lab.fork()
    lab.put(envelope("t.tell", ["way"]), "t.tell")
    eventually(lambda: f"task way {pid}" in lab.told)
    assert os.waitstatus_to_exitcode(lab.leave().status) == 0
    assert lab.stop() == 0
    lab.close()


BROKEN: dict[str, tuple[dict[str, str], dict[str, Any], int, str]] = {
    "no such module": ({}, {"app": "nowhere"}, 2, "-A nowhere: there is no module 'nowhere'"),
    "no such submodule": ({}, {"app": "told.tasks"}, 2, "-A told.tasks: there is no module 'told.tasks'"),
    "no such attribute": ({}, {"app": "told:other"}, 2, "-A told:other: there is no 'other' in module 'told'"),
    "no application": ({"source": "x = 1\n"}, {}, 2, "-A told: no Celery application in it"),
    "something else": ({"source": "app = 5\n"}, {}, 2, "-A told: this is no Celery application but int"),
    "a missing import": (
        {"source": "import missing_one\n"},
        {},
        2,
        "ModuleNotFoundError: No module named 'missing_one'",
    ),
    "an error": ({"source": "raise RuntimeError('so\\nnot')\n"}, {}, 2, "importing it failed: RuntimeError: so not"),
    "a syntax error": ({"source": "def (:\n"}, {}, 2, "SyntaxError"),
    "an exit": ({"source": "raise SystemExit(4)\n"}, {}, 2, "importing it failed: SystemExit: 4"),
    "an attribute error": (
        {"source": "import os\nos.nothing\n"},
        {},
        2,
        "AttributeError: module 'os' has no attribute",
    ),
    "an unknown queue": (
        {"source": APPLICATION + "app.conf.task_create_missing_queues = False\n"},
        {"queues": ("nope",)},
        1,
        "queue 'nope' isn't defined",
    ),
    "a task module": (
        {"source": APPLICATION + "app.conf.imports = ['nothing_here']\n"},
        {},
        1,
        "setting the application up failed: ModuleNotFoundError",
    ),
    "an override": ({}, {"overrides": {"worker_nothing": "1"}}, 2, "worker_nothing=1 after -- cannot be used"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_application_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    facts, options, code, text = BROKEN[name]
    lab = NurseryLab(tmp_path, **facts)
    failed = lab.start(**options)
    assert isinstance(failed, Failed)
    assert (failed.exit_code, "\n" in failed.message) == (code, False)
    assert text in failed.message
    assert lab.process.wait(10) == 1
    lab.close()


def test_what_does_not_take_effect_is_said(tmp_path: Path) -> None:
    source = APPLICATION + (
        "from celery import bootsteps\n"
        "import threading\n"
        "class Mine(bootsteps.StartStopStep):\n    requires = ('celery.worker.components:Pool',)\n"
        "class SetsUp(bootsteps.Step):\n    def __init__(self, parent, **kw):\n        tell('step')\n"
        "class Consumes(bootsteps.ConsumerStep):\n    pass\n"
        "app.steps['worker'].add(Mine)\napp.steps['worker'].add(SetsUp)\napp.steps['consumer'].add(Consumes)\n"
        "threading.Thread(target=lambda: threading.Event().wait(), name='watcher', daemon=True).start()\n"
    )
    lab = NurseryLab(tmp_path, source=source)
    ready = lab.start()
    assert isinstance(ready, Ready)
    said = "\n".join(ready.program.warnings)
    assert "worker bootstep" in said
    assert "Mine" in said
    assert "SetsUp" not in said
    assert "step" in lab.told
    assert "consumer bootstep" in said
    assert "the thread 'watcher'" in said
    lab.close()


def test_settings_after_two_dashes_and_options(nursery: NurseryLab) -> None:
    ready = nursery.start(overrides={"worker_prefetch_multiplier": "9", "task_default_queue": "own"})
    assert isinstance(ready, Ready)
    assert ready.program.prefetch_multiplier == 9
    assert [queue.name for queue in ready.program.queues] == ["own"]


def test_the_log_file_of_each_child(nursery: NurseryLab, tmp_path: Path) -> None:
    ready: Any = nursery.start(logfile=str(tmp_path / "w-%i.log"))
    assert isinstance(ready, Ready)
    nursery.fork()
    nursery.put(envelope("t.tell"), "t.tell")
    eventually(lambda: (tmp_path / "w-1.log").exists() and "succeeded in" in (tmp_path / "w-1.log").read_text())
    assert "INFO/ForkPoolWorker-1]" in (tmp_path / "w-1.log").read_text()
