"""The log looks like Celery's."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from multiprocessing import process
from pathlib import Path

import pytest

from fastq import log


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_has_time_level_and_process() -> None:
    stream = io.StringIO()
    log.setup("info", stream=stream)
    logging.getLogger("any").info("hello %s", "world")
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: INFO/MainProcess\] hello world\n", stream.getvalue())


def test_below_the_level_nothing_is_written() -> None:
    stream = io.StringIO()
    log.setup(logging.ERROR, stream=stream)
    logging.getLogger("any").warning("unheard")
    assert stream.getvalue() == ""


def test_setting_up_again_replaces_our_handler_and_no_other() -> None:
    root = logging.getLogger()
    theirs = logging.NullHandler()
    root.addHandler(theirs)
    first, second = io.StringIO(), io.StringIO()
    log.setup("INFO", stream=first)
    log.setup("INFO", stream=second)
    logging.getLogger("any").info("once")
    root.removeHandler(theirs)
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_a_log_file_is_opened_again_after_rotation(tmp_path: Path) -> None:
    file = tmp_path / "worker.log"
    log.setup("INFO", logfile=str(file))
    logging.getLogger("any").info("before")
    file.rename(tmp_path / "worker.log.1")
    logging.getLogger("any").info("after")
    assert "after" in file.read_text()
    assert "before" in (tmp_path / "worker.log.1").read_text()


@pytest.mark.parametrize(
    ("stream", "color", "colored"),
    [(Terminal(), None, True), (Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False)],
)
def test_colours_only_on_a_terminal_and_only_if_wanted(stream: io.StringIO, color: bool | None, colored: bool) -> None:
    log.setup("INFO", stream=stream, color=color)
    logging.getLogger("any").warning("careful")
    assert ("\033[" in stream.getvalue()) is colored


def test_a_task_format_copes_with_records_of_no_task() -> None:
    record = logging.LogRecord("any", logging.INFO, __file__, 1, "text", None, None)
    assert log.Formatter(log.TASK_FORMAT).format(record).endswith("???[???]: text")


@pytest.mark.parametrize(
    ("level", "number"), [("debug", 10), ("WARN", 30), ("fatal", 50), ("15", 15), (7, 7), (" info ", 20)]
)
def test_levels_by_name_and_number(level: str | int, number: int) -> None:
    assert log.level_number(level) == number


def test_a_level_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'loud'.*DEBUG"):
        log.level_number("loud")


def test_a_child_has_its_name_in_its_records() -> None:
    log.name_process(log.child_name(3))
    try:
        record = logging.LogRecord("any", logging.INFO, __file__, 1, "text", None, None)
        assert record.processName == "ForkPoolWorker-3"
    finally:
        log.name_process(log.MAIN_NAME)
    assert process.current_process().name == log.MAIN_NAME
