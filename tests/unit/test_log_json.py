"""Each event is one JSON object on one line, with the task that it is about, and without passwords."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from fastq import log


def line(message: str = "hello %s", *args: object, task: tuple[str, str] | None = None, **facts: Any) -> dict[str, Any]:
    record = logging.LogRecord(
        "fastq.x", logging.WARNING, "file", 1, message, args or ("you",), facts.pop("error", None)
    )
    vars(record).update(facts)
    text = log.JsonFormatter(lambda: task).format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_fields_of_every_line() -> None:
    found = line()
    assert found["timestamp"].endswith("Z")
    assert (found["level"], found["logger"], found["message"]) == ("WARNING", "fastq.x", "hello you")
    assert {"process", "pid"} <= set(found)
    assert "task_id" not in found


def test_a_line_of_a_task_says_which() -> None:
    found = line(task=("t.add", "id-1"))
    assert (found["task_name"], found["task_id"]) == ("t.add", "id-1")


def test_a_record_that_says_its_task_itself_is_believed() -> None:
    assert line(task=("t.add", "id-1"), task_id="id-2", task_name="t.mul")["task_id"] == "id-2"
    assert line(data={"id": "id-3", "name": "t.sub"})["task_name"] == "t.sub"


def test_several_lines_and_errors_stay_on_one() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        found = line("a\nb %s", error=sys.exc_info())
    assert found["message"] == "a\nb you"
    assert "ValueError: two\nlines" in found["exception"]


def test_passwords_are_masked() -> None:
    found = line("lost %s", "redis://user:geheim@host:6379/0")
    assert found["message"] == "lost redis://user:**@host:6379/0"
