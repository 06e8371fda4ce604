"""Which program -A names: a native application, or Celery's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastq.app.find import find_native
from fastq.errors import ApplicationError

if TYPE_CHECKING:
    from fastq.config.settings import WorkerOptions
    from fastq.program import Program


def program_of(options: WorkerOptions) -> Program:
    """The application that -A names, native or Celery's, not set up yet. Raises ApplicationError."""
    app = find_native(options.app)
    if app is not None:
        from fastq.app.program import NativeProgram

        return NativeProgram(app)
    try:
        from fastq.compat.celery.program import CeleryProgram
    except ModuleNotFoundError as error:
        raise ApplicationError(
            f"-A {options.app}: this is no FastQ application, and Celery is not installed ({error}): pip install "
            "'fastq[celery]'"
        ) from error
    return CeleryProgram()
