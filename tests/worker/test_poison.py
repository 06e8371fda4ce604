"""A message that ends its process again and again is put aside, with its story; so is what the operator asks for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from fastq.ipc.segment import remove_files
from fastq.wire.deadletter import DeadLetter, decode_letter
from tests.eventually import eventually
from tests.fix_lab import Lab, stored, wait_state
from tests.fix_worker import ROOT
from tests.push import push

pytestmark = pytest.mark.fastq_only("a stock worker runs such a message for ever: celery #9082")

DEAD = "fastq:dead:{celery}"


def letters(lab: Lab) -> list[DeadLetter]:
    return [decode_letter(entry) for entry in lab.db.entries(DEAD)]


def dlq(lab: Lab, *args: str, code: int = 0) -> str:
    """What `fastq dlq` says, without an application."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fastq", "dlq", *args, "-b", lab.db.url],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert " celery" not in done.stderr, "no application and no Celery is imported"
    return done.stdout


def without_marks(raw: bytes) -> dict[str, Any]:
    """A message without what each delivery changes."""
    found: dict[str, Any] = json.loads(raw)
    found["headers"].pop("redelivered", None)
    found["properties"]["delivery_info"].pop("redelivered", None)
    found["properties"].pop("delivery_tag")
    return found


def test_a_segfault_is_tried_three_times_and_told(lab: Lab) -> None:
    sent = lab.send("die_requeue", "segfault")
    [original] = lab.db.entries()
    worker = lab.worker()
    record = wait_state(lab, sent.id, "FAILURE")
    assert record["result"]["exc_type"] == "WorkerLostError"
    assert "3 times (--max-crashes is 3); the message was quarantined" in record["result"]["exc_message"][0]
    eventually(lambda: letters(lab))
    [letter] = letters(lab)
    assert (letter.id, letter.task, letter.reason) == (sent.id, "t.die_requeue", "crashes")
    assert without_marks(letter.message) == without_marks(original)
    assert len(letter.deaths) == 3
    assert all("signal 11 (SIGSEGV)" in death.reason for death in letter.deaths)
    assert all(death.peak_kib for death in letter.deaths)
    assert "Segmentation fault" in letter.deaths[0].stack
    assert "in die" in letter.deaths[0].stack
    assert worker.log_lines("in die$")
    assert lab.run("add", 1, 1) == 2
    eventually(lab.idle)


def test_what_was_put_aside_can_be_looked_at_and_sent_again(lab: Lab) -> None:
    sent = lab.task("die_requeue").apply_async(("kill", ""))
    worker = lab.worker("--max-crashes", "1")
    wait_state(lab, sent.id, "FAILURE")
    eventually(lambda: letters(lab))
    assert f"crashes     {sent.id} t.die_requeue\n1 dead letter\n" in dlq(lab, "list")
    shown = dlq(lab, "show", sent.id)
    assert "signal 9 (SIGKILL)" in shown
    assert "peak memory" in shown
    assert json.loads(dlq(lab, "show", sent.id, "--json"))["id"] == sent.id
    worker.stop()
    [letter] = letters(lab)
    assert dlq(lab, "replay", sent.id) == "1 dead letter sent to their queues again\n"
    assert lab.db.entries() == [letter.message]
    assert not lab.db.keys("*fastq:crashes*"), "it has as many tries as before"
    assert not letters(lab)
    dlq(lab, "replay", sent.id, code=2)


def test_one_crash_more_than_allowed_needs_as_many_crashes(lab: Lab) -> None:
    lab.worker("--max-crashes", "2")
    sent = lab.send("die_requeue", "kill", "once")
    assert sent.get(timeout=15) == "survived"
    assert not letters(lab)


def test_under_early_acknowledgement_the_task_fails_as_ever(lab: Lab) -> None:
    lab.worker("--max-crashes", "1")
    sent = lab.send("die", "kill")
    record = wait_state(lab, sent.id, "FAILURE")
    assert "quarantined" not in record["result"]["exc_message"][0]
    assert not letters(lab)


def test_a_message_that_is_killed_over_its_time_says_so(lab: Lab) -> None:
    lab.worker("--max-crashes", "1")
    sent = lab.task("stubborn_requeue").apply_async(("late",), time_limit=0.5)
    wait_state(lab, sent.id, "FAILURE", within_s=30)
    eventually(lambda: letters(lab))
    [letter] = letters(lab)
    assert [death.reason for death in letter.deaths] == ["Hard time limit (0.5s) exceeded."]


def test_a_message_that_is_killed_over_its_memory_is_put_aside(lab: Lab) -> None:
    lab.worker("--max-memory-hard", str(60 * 1024), "--max-crashes", "2")
    sent = lab.send("swell_requeue", "fat", 10)
    record = wait_state(lab, sent.id, "FAILURE", within_s=30)
    assert "exceeded its memory limit" in record["result"]["exc_message"][0]
    assert lab.ledger.count("ran", "fat") == 2
    eventually(lambda: letters(lab))


def test_a_message_that_takes_the_whole_worker_with_it_is_put_aside(lab: Lab) -> None:
    """celery #9082: one pod a cycle, for ever. Whoever restores counts, and stores the failure."""
    sent = lab.send("hold_late", "pod")
    for round_ in range(1, 4):
        worker = lab.worker()
        eventually(lambda n=round_: lab.ledger.count("start", "pod") == n, within_s=20)  # type: ignore[misc]
        worker.kill()
    last = lab.worker()
    record = wait_state(lab, sent.id, "FAILURE", within_s=20)
    assert "3 times" in record["result"]["exc_message"][0]
    [letter] = letters(lab)
    assert (letter.id, len(letter.deaths)) == (sent.id, 3)
    assert "ended while it ran this message" in letter.deaths[0].reason
    assert lab.ledger.count("start", "pod") == 3
    assert last.log_lines("put aside")
    assert lab.run("add", 1, 1) == 2


def test_on_another_host_what_it_said_last_is_believed(lab: Lab) -> None:
    """The segment with the counters is gone with the machine."""
    lab.send("hold_late", "far")
    lab.send("mark_late", "innocent")
    worker = lab.worker()
    eventually(lambda: lab.ledger.count("start", "far") == 1)
    eventually(lambda: lab.db.keys("fastq:running:*"))
    worker.kill()
    for segment in worker.segments:  # its own: another run of the tests has workers of this name, too
        remove_files(segment)
    other = lab.worker("--max-crashes", "1")
    eventually(lambda: letters(lab), within_s=20)
    assert [letter.task for letter in letters(lab)] == ["t.hold_late"]
    eventually(lambda: lab.ledger.count("ran", "innocent") == 1, saying="what only waited is not suspected")
    assert other.alive


def test_a_stop_while_messages_are_restored_waits_until_their_failures_are_stored(lab: Lab) -> None:
    sent = lab.send("hold_late", "far")
    worker = lab.worker()
    eventually(lambda: lab.ledger.count("start", "far") == 1)
    eventually(lambda: lab.db.keys("fastq:running:*"))
    worker.kill()
    other = lab.worker("--max-crashes", "1", ready=False)
    until = time.monotonic() + 20
    while not lab.db.length(DEAD) and time.monotonic() < until:
        pass  # as soon as it is restored: before the main process hears of it
    assert other.stop() == 0
    assert stored(lab, sent.id).get("status") == "FAILURE", other.log[-1000:]


def test_unknown_tasks_and_used_up_retries_are_put_aside_if_asked_for(lab: Lab) -> None:
    worker = lab.worker("--dead-letter", "unknown,retries,undecodable")
    lab.app.send_task("t.nobody", task_id="unknown-1")
    failing = lab.send("give_up")
    push(lab.db, b"no message")
    eventually(lambda: len(letters(lab)) == 3, within_s=15, saying=worker.log[-2000:])
    assert {letter.reason for letter in letters(lab)} == {"unknown", "retries", "undecodable"}
    by_reason = {letter.reason: letter for letter in letters(lab)}
    assert by_reason["unknown"].id == "unknown-1"
    assert by_reason["retries"].id == failing.id
    assert "failed 2 times; the last time: CustomError" in by_reason["retries"].detail
    assert by_reason["undecodable"].message == b"no message"
    assert stored(lab, "unknown-1")["status"] == "FAILURE", "Celery's end of it is as ever"
    assert stored(lab, failing.id)["status"] == "FAILURE"
    assert "2 dead letters dropped" in dlq(lab, "drop", "--all", "--reason", "unknown", "--reason", "undecodable")
    assert [letter.reason for letter in letters(lab)] == ["retries"]


def test_without_being_asked_for_they_are_not(lab: Lab) -> None:
    lab.worker()
    lab.app.send_task("t.nobody", task_id="unknown-2")
    wait_state(lab, "unknown-2", "FAILURE")
    assert not letters(lab)


def test_a_stop_gives_back_what_runs_without_suspecting_it(lab: Lab) -> None:
    worker = lab.worker()
    lab.send("hold_late", "stopped")
    eventually(lambda: lab.ledger.count("start", "stopped") == 1)
    worker.stop(signal.SIGQUIT)
    assert not lab.db.keys("*fastq:crashes*")
    assert not lab.db.keys("*fastq:running*")
