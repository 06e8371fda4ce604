"""An application that takes signed messages only."""

from __future__ import annotations

import os
from pathlib import Path

from tests.apps import plain

table = plain.table
app = table.build_from_environment()

if "FASTQ_TEST_KEYS" in os.environ:
    keys = Path(os.environ["FASTQ_TEST_KEYS"])
    app.conf.update(task_serializer="auth", accept_content=["auth"])
    app.setup_security(key=str(keys / "own.key"), cert=str(keys / "own.pem"), store=str(keys / "*.pem"))
