"""Read the golden samples and make two recordings of the same thing comparable."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d)?")
_ORIGIN = re.compile(r"gen\d+@[\w.-]+")
_MODULES = ("wapp", "tests.apps.golden")


class Sample:
    """One golden file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        labelled = any(re.fullmatch(r"c\d+|lua", command[0]) for command in self.content.get("redis_commands", []))
        rows = self.content.get("redis_commands", [])
        self.commands: list[list[str]] = [row if labelled else ["c1", *row] for row in rows]

    def pushes(self) -> list[tuple[str, str, str]]:
        """Every message of the recording: (client, key, envelope)."""
        return [(row[0], row[2], row[3]) for row in self.commands if row[1] == "LPUSH"]

    def sent_by_client(self) -> list[list[str]]:
        """The commands with which the producer put its messages and its chord sizes there."""
        producer = self.pushes()[0][0]
        last = max(i for i, row in enumerate(self.commands) if row[0] == producer and row[1] == "LPUSH")
        mine = [row for row in self.commands[: last + 1] if _of_producer(row, producer=producer)]
        return [row[1:] for row in mine]

    def sent_by_worker(self) -> list[str]:
        """The envelopes that followed from running it."""
        producer = self.pushes()[0][0]
        return [envelope for client, _key, envelope in self.pushes() if client != producer]

    def stores(self) -> list[str]:
        """Every result that was stored, in order."""
        return [row[4] for row in self.commands if row[1] == "SETEX" and row[2].startswith("celery-task-meta-")]

    def known_ids(self) -> set[str]:
        """The ids a replay shares with the recording: those in what the producer sent."""
        texts = [text for row in self.sent_by_client() for text in row]
        bodies = [body_text(json.loads(row[2])) for row in self.sent_by_client() if row[0] == "LPUSH"]
        return {found for text in [*texts, *bodies] for found in _UUID.findall(text)}


def _of_producer(row: list[str], *, producer: str) -> bool:
    if row[1] == "LPUSH":
        return row[0] == producer
    return row[1] in ("SET", "DEL") and row[0] != "lua" and row[2].startswith("celery-taskset-meta-")


def names(prefix: str) -> list[str]:
    """The golden files of one kind."""
    return sorted(path.stem for path in FOLDER.glob(f"{prefix}*.json"))


def body_text(envelope: dict[str, Any]) -> str:
    """The body as text, "" where it is no text."""
    try:
        return base64.b64decode(envelope["body"]).decode()
    except UnicodeDecodeError:
        return ""


def comparable(value: Any, *, known: Iterable[str]) -> Any:
    """The value with everything replaced that differs between two runs: ids, times, hosts, pids, source lines."""
    shared = set(known)
    if isinstance(value, dict):
        return {key: _field(key, inner, known=shared) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [comparable(inner, known=shared) for inner in value]
    return _text(value, known=shared) if isinstance(value, str) else value


def _field(name: str, value: Any, *, known: set[str]) -> Any:
    if name == "traceback" and isinstance(value, str):
        return _text(value.rstrip().splitlines()[-1], known=known)
    if name in ("pid", "hostname", "delivery_tag"):
        return name.upper()
    return comparable(value, known=known)


def _text(text: str, *, known: set[str]) -> str:
    text = _UUID.sub(lambda found: found[0] if found[0] in known else "ID", text)
    text = _ORIGIN.sub("ORIGIN", _TIME.sub("TIME", text))
    for module in _MODULES:
        text = text.replace(module, "MODULE")
    return text


def comparable_message(envelope: str, *, known: Iterable[str]) -> Any:
    """An envelope with its body opened, made comparable."""
    message = json.loads(envelope)
    return comparable({**message, "body": json.loads(body_text(message))}, known=known)


def by_task(records: Iterable[str], *, known: Iterable[str]) -> list[Any]:
    """Stored results as one comparable history per task, in an order that does not depend on timing."""
    histories: dict[str, list[Any]] = {}
    for text in records:
        record = json.loads(text)
        histories.setdefault(record["task_id"], []).append(comparable(record, known=known))
    return sorted(histories.values(), key=json.dumps)
