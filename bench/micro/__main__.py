"""Run them: `python -m bench.micro [arguments of pytest]`, for example `-k scan` or `--benchmark-autosave`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

#: Of a batch, one message costs a 256th: the table shows batches, the last column messages.
COLUMNS = "min,median,iqr,rounds"

if __name__ == "__main__":
    here = str(Path(__file__).parent)
    sys.exit(
        pytest.main(
            [here, "--benchmark-only", f"--benchmark-columns={COLUMNS}", "--benchmark-sort=name", "-q", *sys.argv[1:]]
        )
    )
