"""Run them: `python -m bench.micro [arguments of pytest]`, for example `-k scan` or `--benchmark-autosave`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Of a batch, one message costs a 256th: the table shows batches, the last column messages.
COLUMNS = "min,median,iqr,rounds"

if __name__ == "__main__":
    here = str(Path(__file__).parent)
    chosen = ["--benchmark-only", f"--benchmark-columns={COLUMNS}", "--benchmark-sort=name", "-q", *sys.argv[1:]]
    # In a process of its own: fastq is a plugin of pytest, which wants to import the packages beside it itself.
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", here, *chosen]))
