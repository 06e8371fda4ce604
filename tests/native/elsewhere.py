"""Make a process as poor as macOS or Windows are, before it imports fastq; it stays a process on Linux all the same.

`become` takes away what those systems lack: modules, attributes, options of sockets, and the compiled core. Python's
own modules and the packages that fastq needs are imported before that, since they ask for the system at their import.
Only event loops wait for sockets as they would there.
"""

from __future__ import annotations

import functools
import importlib
import os
import select
import selectors
import signal
import socket
import sys
import time
from importlib.machinery import PathFinder
from typing import Any

#: What knows its way about on each system by itself.
_OTHERS = (
    "asyncio",
    "celery.app.amqp",
    "celery.backends.redis",
    "click",
    "cronsim",
    "hiredis",
    "kombu.transport.redis",
    "logging.handlers",
    "msgspec",
    "multiprocessing.util",
    "psutil",
    "redis.asyncio",
    "redis.sentinel",
    "subprocess",
    "zoneinfo",
)

#: What only Linux has.
_LINUX: dict[Any, tuple[str, ...]] = {
    os: ("EFD_", "MFD_", "eventfd", "memfd_create", "pidfd_", "pipe2", "posix_fallocate", "sched_"),
    select: ("epoll", "EPOLL"),
    signal: ("SIGRT", "pidfd_"),
    socket: ("TCP_KEEPIDLE", "TCP_USER_TIMEOUT"),
}

#: What Windows has not, either.
_UNIX: dict[Any, tuple[str, ...]] = {
    os: (
        *("O_CLOEXEC", "O_DIRECTORY", "O_NONBLOCK", "WNOHANG", "chown", "fork", "getegid", "geteuid", "getgid"),
        *("getgroups", "getloadavg", "getpgid", "getuid", "initgroups", "killpg", "nice", "pread", "pwrite"),
        *("register_at_fork", "set", "sysconf", "uname", "wait3", "wait4"),
    ),
    select: ("poll", "POLL"),
    signal: (
        *("ITIMER_", "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR", "alarm"),
        *("pthread_kill", "setitimer", "sigtimedwait", "sigwait"),
    ),
    socket: ("AF_UNIX", "MSG_DONTWAIT", "recv_fds", "send_fds"),
    time: ("tzset",),
}
_UNIX_MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")


def become(platform: str) -> None:
    """Be `darwin` or `win32`, or a Linux without the core: no fastq has been imported before this."""
    assert not any(name.partition(".")[0] == "fastq" for name in sys.modules), "fastq has seen this process as it was"
    gone = {"linux": [], "darwin": [_LINUX], "win32": [_LINUX, _UNIX]}[platform]
    for table in gone:
        _take({select: table.get(select, ())})
    importlib.reload(selectors)
    for name in _OTHERS:
        importlib.import_module(name)
    if platform == "win32":
        socket.socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)  # as Windows has one without that
        sys.modules.update(dict.fromkeys(_UNIX_MODULES))  # type: ignore[arg-type]  # None: importing it fails
        _refuse_options()
    for table in gone:
        _take(table)
    if platform != "linux" and hasattr(os, "process_cpu_count"):
        os.process_cpu_count = os.cpu_count
    _hide("fastq._core")
    sys.platform = platform


def _hide(hidden: str) -> None:
    find = PathFinder.find_spec

    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        return None if name == hidden else find(name, path, target)

    PathFinder.find_spec = find_spec  # type: ignore[assignment,method-assign]


def _take(table: dict[Any, tuple[str, ...]]) -> None:
    for module, starts in table.items():
        for name in [name for name in vars(module) if name.startswith(starts)]:
            delattr(module, name)


def _refuse_options() -> None:
    """Windows takes the time limits of a socket as numbers, and no flag for not waiting."""
    kind: Any = socket.socket
    limits = (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)

    def setsockopt(self: Any, level: int, option: int, *value: Any) -> None:
        assert level != socket.SOL_SOCKET or option not in limits, "a time limit of the kernel's"
        super(kind, self).setsockopt(level, option, *value)

    def recv(self: Any, size: int, flags: int = 0) -> bytes:
        assert not flags, f"a read with flags {flags}"
        data: bytes = super(kind, self).recv(size, flags)
        return data

    kind.setsockopt, kind.recv = setsockopt, recv
