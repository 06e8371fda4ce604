"""What is typed and what is in the environment arrive at the engine; mistakes are one line and an exit code."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastq import errors
from fastq.cli import daemon, worker
from fastq.cli.main import main
from fastq.config.settings import SETTINGS, WorkerOptions, variables


class Engine:
    """Stands in for the standin: keeps the options, answers with an exit code or an error."""

    def __init__(self) -> None:
        self.options: list[WorkerOptions] = []
        self.answer: int | Exception = 0
        self.at_start: Callable[[], None] = lambda: None

    def run(self, options: WorkerOptions) -> int:
        self.options.append(options)
        self.at_start()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def run(line: str) -> int:
    return main(line.split())


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Engine]:
    """An engine, an empty directory, and no variables of ours or Celery's."""
    for variable in [each for name in SETTINGS for each in variables(name)] + list(worker._EXPORTS.values()):
        monkeypatch.setenv(variable, "")  # so that what the command exports is taken back as well
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    standin = Engine()
    monkeypatch.setattr(worker, "start", standin.run)
    monkeypatch.setattr(daemon, "settle_in", lambda _options: "")  # this process has to stay what it is
    monkeypatch.setattr(daemon, "detach", lambda _options: None)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield standin
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-A proj worker", {"app": "proj"}),
        ("worker -A proj", {"app": "proj"}),
        ("celery -A proj worker --executable=python", {"app": "proj", "executable": "python"}),  # by celery multi
        ("-A other worker -A proj", {"app": "proj"}),
        ("--app=proj worker -l info", {"loglevel": "INFO"}),
        (
            "-A proj worker -Q a,b -X c,d -I m.n",
            {"queues": ("a", "b"), "exclude_queues": ("c", "d"), "include": ("m.n",)},
        ),
        ("-A proj worker -c4 -n w1@%h", {"concurrency": 4, "hostname": "w1@%h"}),
        ("-A proj worker -c auto -P prefork", {"concurrency": "auto", "pool": "prefork"}),
        ("-A proj worker -c 0", {"concurrency": None}),
        ("-A proj worker -O fair --prefetch-multiplier 1", {"optimization": "fair", "prefetch_multiplier": 1}),
        ("-A proj worker --disable-prefetch --discard", {"disable_prefetch": True, "purge": True}),
        ("-A proj worker", {"disable_prefetch": None, "task_events": None, "queues": (), "loglevel": "WARNING"}),
        ("-A proj worker --time-limit 1.5 --soft-time-limit=1", {"time_limit": 1.5, "soft_time_limit": 1.0}),
        ("-A proj worker --max-tasks-per-child 10", {"max_tasks_per_child": 10}),
        ("-A proj worker --autoscale 3,10 -B -E -s f", {"autoscale": (10, 3), "beat": True, "schedule": "f"}),
        ("-A proj worker -- worker.prefetch_multiplier=1", {"overrides": {"worker_prefetch_multiplier": "1"}}),
        ("-A proj worker .concurrency=3 -l debug", {"overrides": {"worker_concurrency": "3"}, "loglevel": "DEBUG"}),
        ("-q -C --skip-checks worker -A proj", {"quiet": True, "no_color": True, "skip_checks": True}),
    ],
)
def test_the_command_line_arrives(line: str, expected: dict[str, object], standin: Engine) -> None:
    assert run(line) == 0
    (options,) = standin.options
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FASTQ_APP": "ours", "APP": "theirs"}, {"app": "ours"}),
        ({"APP": "first", "CELERY_APP": "second"}, {"app": "first"}),
        ({"CELERY_APP": "proj", "CELERY_WORKER_CONCURRENCY": "3"}, {"concurrency": 3}),
        ({"APP": "proj", "CELERY_WORKER_QUEUES": "a,b"}, {"queues": ("a", "b")}),
        ({"APP": "proj", "CELERY_WORKER_TASK_EVENTS": "true"}, {"task_events": True}),
        ({"APP": "proj", "CELERY_WORKER_TASK_EVENTS": "0"}, {"task_events": None}),
        ({"APP": "proj", "NO_COLOR": "anything"}, {"no_color": True}),
        ({"APP": "proj", "CELERY_WORKER_CONCURRENCY": "3", "FASTQ_WORKER_CONCURRENCY": "5"}, {"concurrency": 5}),
        ({"APP": "proj", "CELERY_WORKER_CONCURRENCY": ""}, {"concurrency": None}),
    ],
)
def test_the_environment_arrives(
    environment: dict[str, str], expected: dict[str, object], standin: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert main(["worker"]) == 0
    (options,) = standin.options
    assert {name: getattr(options, name) for name in expected} == expected


def test_the_command_line_wins_and_sources_are_remembered(standin: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_WORKER_CONCURRENCY", "3")
    monkeypatch.setenv("CELERY_WORKER_QUEUES", "a")
    run("-A proj worker -c 5")
    (options,) = standin.options
    assert options.concurrency == 5
    assert options.given == {
        "app": "--app",
        "concurrency": "--concurrency",
        "queues": "environment CELERY_WORKER_QUEUES",
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("worker", "no application: name it with -A"),
        ("-A proj workr", "No such command 'workr'"),
        ("-A proj worker -c many", "--concurrency: .* got 'many'"),
        ("-A proj worker -P gevent", "pool 'gevent' is not available"),
        ("-A proj worker -P eventlet", "pool 'eventlet' is not available"),
        ("-A proj worker --autoscale a,b", "--autoscale: .*'a,b'"),
        ("-A proj worker -l loud", "--loglevel: .*'loud'"),
        ("-A proj worker -- nonsense", "name=value.*'nonsense'"),
        ("-A proj worker -n w@%x", "%x in 'w@%x'"),
        ("-A proj worker -c", "Option '-c' requires an argument"),
        ("--workdir /nowhere/at/all -A proj worker", "--workdir: cannot change to '/nowhere/at/all'"),
        ("-A proj worker -f /nowhere/at/all.log", "--logfile: cannot open /nowhere/at/all.log"),
        ("-A proj worker --pidfile /nowhere/at/all.pid", "pidfile /nowhere/at/all.pid: cannot be written"),
        ("recover", "no broker"),
        ("recover -b redis:// --transport-options {", "not JSON"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    line: str, words: str, standin: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 2
    output = capsys.readouterr()
    assert output.err.startswith("fastq: ")
    assert output.err.count("\n") == 1
    assert re.search(words, output.err), output.err
    assert not standin.options


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ApplicationError("no module named 'proj'"), 2),
        (errors.BrokerRefused("redis://host/0: wrong password"), 1),
    ],
)
def test_what_the_engine_raises_is_one_line_too(
    error: errors.FastqError, code: int, standin: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    standin.answer = error
    assert run("-A proj worker") == code
    assert capsys.readouterr().err == f"fastq: {error.message}\n"


def test_the_engines_exit_code_is_ours(standin: Engine) -> None:
    standin.answer = 1
    assert run("-A proj worker") == 1


def test_a_bug_keeps_its_traceback(standin: Engine) -> None:
    standin.answer = errors.ImpossibleEvent("settled twice")
    with pytest.raises(errors.ImpossibleEvent):
        run("-A proj worker")


def test_options_without_effect_are_reported_once_each(
    standin: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "not_yet_effective", lambda _options: {"--one": "because", "--two": "of that"})
    run("-A proj worker -f out.log")
    lines = (tmp_path / "out.log").read_text().splitlines()
    assert [line.split("] option ")[1].split(" is ")[0] for line in lines] == ["--one", "--two"]
    assert all("is accepted but not yet effective: " in line for line in lines)


@pytest.mark.parametrize(
    "words", ["-Zfast --colour=red", "--colour red worker.concurrency=3", "-Z -- worker.concurrency=3"]
)
def test_options_of_the_application_are_passed_on_whole(standin: Engine, words: str) -> None:
    run(f"-A proj worker -c 2 {words} -l INFO" if "--" not in words.split() else f"-A proj worker -c 2 -l INFO {words}")
    (options,) = standin.options
    assert options.unknown == tuple(word for word in words.split() if word != "--")
    assert (options.concurrency, options.loglevel, options.logfile, options.overrides) == (2, "INFO", None, {})
