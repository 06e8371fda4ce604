"""Answer what remote control asks of a native application itself: its tasks, its settings, what it runs on."""

from __future__ import annotations

import json
import platform
import re
import sys
from typing import TYPE_CHECKING, Any

import msgspec

import fastq
from fastq import log
from fastq.program import Question, Reply

if TYPE_CHECKING:
    from fastq.app.app import FastQ

#: Names of what nobody is shown.
_SECRET = re.compile("token|key|secret|pass|credential|certfile", re.IGNORECASE)


def answer(app: FastQ, question: Question) -> Reply:
    """`registered`, `conf` and `report`; anything else is an error. Raises nothing."""
    arguments = json.loads(question.arguments)
    if question.kind == "command" and question.name == "registered":
        return _said(_registered(app, arguments.get("taskinfoitems") or ["rate_limit"]))
    if question.kind == "command" and question.name == "conf":
        return _said(_settings(app, everything=bool(arguments.get("with_defaults"))))
    if question.kind == "command" and question.name == "report":
        return _said({"ok": _report(app)})
    text = f"a native application does not answer {question.kind!r} {question.name}".strip()
    return Reply(value=json.dumps({"error": text}).encode(), failed=True)


def _said(value: Any) -> Reply:
    return Reply(value=json.dumps(value).encode())


def _registered(app: FastQ, items: list[str]) -> list[str]:
    """The tasks, each with those of its options that were asked for and are set."""
    found = []
    for name, task in sorted(app.tasks.items()):
        options = {item: getattr(task.options, item, None) for item in items}
        said = " ".join(f"{item}={value}" for item, value in options.items() if value is not None)
        found.append(f"{name} [{said}]" if said else name)
    return found


def _settings(app: FastQ, *, everything: bool) -> dict[str, Any]:
    """The settings that were changed, or all, without secrets."""
    conf, usual = app.conf, type(app.conf)()
    names = [field.name for field in msgspec.structs.fields(type(conf))]
    changed = [name for name in names if everything or getattr(conf, name) != getattr(usual, name)]
    return {name: _plain(name, getattr(conf, name)) for name in changed}


def _plain(name: str, value: Any) -> Any:
    """A value as JSON can say it."""
    if _SECRET.search(name):
        return "********"
    if isinstance(value, dict):
        return {str(key): _plain(str(key), one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain("", one) for one in value]
    if isinstance(value, str):
        return log.without_passwords(value)
    return value if value is None or isinstance(value, (bool, int, float)) else repr(value)


def _report(app: FastQ) -> str:
    """What a bug report should say."""
    software = f"software -> fastq:{fastq.__version__} py:{platform.python_version()}"
    system = f"platform -> system:{platform.system()} arch:{platform.machine()} kernel version:{platform.release()}"
    settings = [f"{name}: {value!r}" for name, value in _settings(app, everything=False).items()]
    return "\n".join([software, f"{system} imp:{sys.implementation.name}", "", *settings])
