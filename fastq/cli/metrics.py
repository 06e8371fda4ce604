"""The command `fastq metrics`."""

from fastq.cli.status import metrics as command

__all__ = ["command"]
