"""Run the command line: `python -m fastq`."""

from __future__ import annotations

import sys

from fastq.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
