"""fastq: a worker engine for Celery applications.

Nothing is imported here: `import fastq` must stay cheap for producers and for the command line.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
