"""A Redis in memory, for tests: the commands that fastq uses, in one process, nothing kept."""

from __future__ import annotations

from fastq.memory import commands, scripts  # both register what they have
from fastq.memory.keyspace import Keyspace, Refused

__all__ = ["Keyspace", "Refused", "commands", "scripts"]
