"""A worker for tests, forked from the test's own process: what is defined, imported or patched there is there, too.

Three processes beside the test: a Redis in memory, the engine, and the nursery with the children. They are the ones of
production, but for two things: the nursery is forked instead of started, so that nothing has to be imported again, and
the broker is `fastq.memory`, on a Unix socket. All end with the block, and with the process that opened it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from fastq import clock
from fastq.config.settings import WorkerOptions
from fastq.errors import FastqError, SurroundingsError
from fastq.testing import leftovers

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from fastq.app.app import FastQ
    from fastq.memory.server import MemoryServer

#: Seconds that the engine may take to load the application.
START_S = 10.0

#: Seconds that running tasks get at the end of the block, before they are killed.
STOP_S = 5.0


class ForkedWorker:
    """One worker on one application, while the block lasts. The application sends to it meanwhile.

    Raises SurroundingsError if it does not start. Start it before the test starts threads of its own: a fork takes
    only the thread that forks.
    """

    def __init__(self, app: FastQ, *, children: int, loglevel: str = "WARNING") -> None:
        self.app: FastQ = app
        self.children: int = children
        self.loglevel: str = loglevel
        #: The process of the engine; 0 before the start.
        self.pid: int = 0
        self._server_pid = 0
        self._folder = ""
        self._before: tuple[str, str | None] = ("", None)

    def __repr__(self) -> str:
        return f"<ForkedWorker {self.app.name} children={self.children} pid={self.pid}>"

    @property
    def url(self) -> str:
        """The memory transport, for everything that takes a Redis URL."""
        return f"redis+socket://{self._folder}/redis.sock?virtual_host=0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the processes, and return when the application is loaded. Blocks."""
        # Imported here, once for all workers of this process.
        import fastq.app.program
        import fastq.nursery
        import fastq.worker.engine  # noqa: F401

        leftovers.remove()
        self._folder = tempfile.mkdtemp(prefix=leftovers.FOLDERS)
        conf = self.app.conf
        self._before = conf.broker_url, conf.result_backend
        try:
            self._server_pid = self._start_server()
            self.app.close()
            conf.broker_url = conf.result_backend = self.url
            self.pid = self._start_engine()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let running tasks end, and stop everything. May be called twice."""
        for pid, patience_s in ((self.pid, STOP_S), (self._server_pid, 1.0)):
            if pid:
                _end(pid, patience_s)
        if self.pid:
            leftovers.remove_of(f"{leftovers.NODES}{self.pid}")
        self.pid = self._server_pid = 0
        self.app.close()
        if self._folder:
            self.app.conf.broker_url, self.app.conf.result_backend = self._before
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    # ------------------------------------------------------------------------ processes

    def _start_server(self) -> int:
        from fastq.memory.server import MemoryServer

        server = MemoryServer(f"{self._folder}/redis.sock")
        pid = _forked(lambda: _serve(server))
        server.close()  # our copies
        return pid

    def _start_engine(self) -> int:
        reading, writing = os.pipe()
        try:
            pid = _forked(lambda: self._run_engine(writing))
        finally:
            os.close(writing)
        self.pid = pid
        try:
            if not select.select([reading], [], [], START_S)[0]:
                raise SurroundingsError(f"the worker for {self.app.name} has not started within {START_S:g} s")
            found = os.read(reading, 65536)
        finally:
            os.close(reading)
        if found != b"ready":
            raise SurroundingsError(f"the worker for {self.app.name} has not started: {found.decode() or 'it ended'}")
        return pid

    def _run_engine(self, writing: int) -> int:
        from fastq.testing.spawn import ForkedNursery, LoadedProgram
        from fastq.worker.main import Worker

        def loaded(*_facts: object) -> None:
            os.write(writing, b"ready")
            os.close(writing)

        options = self._options()
        try:
            worker = Worker(options, announce=loaded, spawn=ForkedNursery(LoadedProgram(self.app)))
            try:
                return worker.run()
            finally:
                worker.close()
        except FastqError as error:
            with contextlib.suppress(OSError):
                os.write(writing, error.message.encode())
            return 1

    def _options(self) -> WorkerOptions:
        return WorkerOptions(
            app=self.app.name,
            concurrency=self.children,
            hostname=f"{leftovers.NODES}{os.getpid()}",
            loglevel=self.loglevel,
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        )


def _serve(server: MemoryServer) -> int:
    server.serve()
    return 0


def _forked(work: Callable[[], int]) -> int:
    """Run a function in a process that ends with this one; its number."""
    from fastq.nursery import die_with_parent, flush_streams

    parent = os.getpid()
    flush_streams()
    with _about_threads():
        pid = os.fork()
    if pid == 0:
        _be(work, lambda: die_with_parent(parent))
    return pid


def _be(work: Callable[[], int], begin: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        begin()
        os.setpgid(0, 0)  # Ctrl-C is for the test: it ends what it has forked, in order
        gc.freeze()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        code = work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


@contextlib.contextmanager
def _about_threads() -> Iterator[None]:
    """Without Python's warning of threads that a fork leaves behind: what is forked here has need of none of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        yield


def _end(pid: int, patience_s: float) -> None:
    """Ask a child of ours to end, and have it killed if it does not."""
    deadline = clock.monotonic() + patience_s
    try:
        os.kill(pid, signal.SIGTERM)
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if clock.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return
            clock.sleep(0.002)
    except (ProcessLookupError, ChildProcessError):
        pass  # somebody else has waited for it
