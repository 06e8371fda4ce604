"""Flower, started as people start it, and asked over its HTTP interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.eventually import eventually
from tests.fix_lab import Lab
from tests.fix_redis import free_port
from tests.fix_worker import ROOT

#: Milliseconds that Flower waits for replies to one question.
INSPECT_MS = 3000


class Flower:
    """One Flower process on the lab's broker."""

    def __init__(self, lab: Lab) -> None:
        self.port = free_port()
        self.log: Path = lab.folder / "flower.txt"
        command = [sys.executable, "-m", "celery", "-A", lab.module, "flower", "--address=127.0.0.1"]
        command += [f"--port={self.port}", f"--inspect-timeout={INSPECT_MS}", "--db="]
        env = {"FLOWER_UNAUTHENTICATED_API": "true", "FASTQ_TEST_BROKER": lab.broker, "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=lab.folder, env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True
            )
        eventually(self._answers, within_s=30, saying=f"Flower answers: {self.log}")

    def _answers(self) -> bool:
        try:
            return self.ask("/healthcheck")[0] == 200
        except OSError:
            return False

    def ask(self, path: str, **form: Any) -> tuple[int, str]:
        """GET, or POST if there is a form: status and text."""
        body = urllib.parse.urlencode({key: value for key, value in form.items() if key != "post"}).encode()
        url = f"http://127.0.0.1:{self.port}{urllib.parse.quote(path, safe='/?=&')}"
        request = urllib.request.Request(url, data=body if form else None)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def get(self, path: str) -> Any:
        """What a path of the interface says."""
        status, text = self.ask(path)
        assert status == 200, f"{path}: {status} {text}"
        return json.loads(text)

    def press(self, path: str, **form: Any) -> str:
        """Press a button; its message."""
        status, text = self.ask(path, post=True, **form)
        assert status == 200, f"{path}: {status} {text}"
        return str(json.loads(text)["message"])

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(15)
