"""The suite's end of a client: starts it in the system's own environment and asks it to send."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from bench import cores
from bench.peers.peer import Peer
from bench.processes import ROOT
from fastq.background import die_with_parent

#: Seconds for its imports and first connection, on a busy machine.
START_S = 60.0

#: Seconds an answer may take, if nothing else is said: more than any call of its may take.
ANSWER_S = 120.0


class Sender:
    """A client process: started with the block, killed at its end."""

    def __init__(self, peer: Peer, *, environment: Mapping[str, str], log: Path) -> None:
        self.peer, self._log = peer, log
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sender:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.peer.python), "-m", "bench.peers.client", self.peer.client],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=_as_sender,
            )
        self._answer(START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe and pipe.close()

    @property
    def pid(self) -> int:
        """Of the client process."""
        assert self._process is not None
        return self._process.pid

    def ask(self, do: str, *, within_s: float = ANSWER_S, **given: Any) -> Any:
        """Have it do something: see `bench.peers.client.Host`. Raises RuntimeError with its error, or TimeoutError."""
        self.begin(do, **given)
        return self._answer(within_s)

    def begin(self, do: str, **given: Any) -> None:
        """Have it begin; `answer` waits for the end."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode({"do": do, **given}) + b"\n")
        self._process.stdin.flush()

    def answer(self, *, within_s: float = ANSWER_S) -> Any:
        """What was begun has found."""
        return self._answer(within_s)

    def _answer(self, within_s: float) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], within_s)
        if not ready:
            raise TimeoutError(f"the client of {self.peer.label} gave no answer within {within_s:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the client of {self.peer.label} ended:\n{self._log.read_text(errors='replace')[-1500:]}"
            )
        found = msgspec.json.decode(line)
        if "error" in found:
            raise RuntimeError(f"the client of {self.peer.label}: {found['error']}")
        return found["found"]


def _as_sender() -> None:
    die_with_parent()
    cores.pin("sender")
