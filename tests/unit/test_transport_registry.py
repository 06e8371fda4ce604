"""Whether a worker lives: asked of the kernel on this host, of the heartbeat elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest

from fastq.transport.redis.registry import RegistryEntry, describe_process, is_dead, presence

HERE = describe_process("w@h-00000000", node="w@h", keys=["celery"], segment="seg")


def changed(**changes: object) -> RegistryEntry:
    return msgspec.structs.replace(HERE, **changes)


def test_this_process_lives() -> None:
    assert HERE.pid == os.getpid()
    assert HERE.pid_start > 0
    assert presence(HERE) == "alive"


def test_an_entry_survives_its_encoding() -> None:
    assert msgspec.json.decode(HERE.encode(), type=RegistryEntry) == HERE


@pytest.mark.parametrize(
    "change",
    [{"boot_id": "another"}, {"pid_ns": HERE.pid_ns + 1}, {"pid_ns": 0}, {"pid": 0}, {"pid_start": 0}],
    ids=str,
)
def test_another_host_or_container_is_elsewhere(change: dict[str, object]) -> None:
    assert presence(changed(**change)) == "elsewhere"


def test_a_later_process_of_the_same_pid_is_another_one() -> None:
    assert presence(changed(pid_start=HERE.pid_start + 1)) == "gone"


def test_a_process_that_has_ended_is_gone_also_as_a_zombie() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    entry = describe_process("w", node="w", keys=[], pid=process.pid)
    assert presence(entry) == "alive"
    assert process.stdin
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet waited for
    assert presence(entry) == "gone"
    process.wait()
    assert presence(entry) == "gone"


@pytest.mark.parametrize(
    ("entry", "beats", "dead"),
    [
        (HERE, False, False),  # lives, whatever its heartbeat
        (HERE, True, False),
        (changed(pid_start=1), True, True),  # gone, although its heartbeat has not expired yet
        (changed(boot_id="another"), True, False),
        (changed(boot_id="another"), False, True),
    ],
)
def test_who_is_dead(entry: RegistryEntry, beats: bool, dead: bool) -> None:
    assert is_dead(entry, beats=beats) is dead
