"""A worker under a monitoring agent, and what the agent reports of it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.apm.agents import Seen
from tests.apm.collector import Collector
from tests.fix_lab import Lab
from tests.fix_worker import WorkerProcess


class Watched:
    """One worker of one engine under one agent, with a collector of its own."""

    def __init__(self, lab: Lab, agent: ModuleType, *, certificate: Path | None = None) -> None:
        self.lab, self.agent = lab, agent
        self.collector = Collector(agent.answer, certificate=certificate)
        lab.use("tests.apm.app")

    def start(self, *args: str, ready: bool = True, env: dict[str, str] | None = None, **options: Any) -> WorkerProcess:
        """Start the worker as the agent wants it started."""
        name = self.agent.__name__.rpartition(".")[2]
        command = self.agent.COMMAND
        prefix = [str(Path(sys.executable).with_name(command[0])), *command[1:]] if command else []
        variables = {"FASTQ_TEST_AGENT": name, **self.agent.environment(self.collector), **(env or {})}
        return self.lab.worker(*args, ready=ready, env=variables, prefix=prefix, **options)

    def seen(self) -> list[Seen]:
        """What has been reported so far."""
        return list(self.agent.read(list(self.collector.sent)))
