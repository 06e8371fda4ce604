"""The rows of starting: a message waits, a worker is started, until its task starts; and the import of the library."""

from __future__ import annotations

import functools
import subprocess
import sys
import time

from bench.lab import lab
from bench.measurement import Sample
from bench.processes import CELERY, FASTQ, ROOT, Engine
from bench.rounds import Case
from bench.sizes import Sizes

#: Both packages are lazy: what takes time is the class that every application asks for, so Celery stands beside that.
IMPORTS = {
    ("import", "fastq"): "import fastq",
    ("import-app", "fastq"): "from fastq import FastQ",
    ("import-app", "celery"): "from celery import Celery",
}

#: What `import fastq` must leave alone.
HEAVY = ("redis", "celery", "asyncio")

#: Fresh interpreters of one sample: the quickest counts.
ATTEMPTS = 3

_IMPORT = """
import sys, time
began = time.perf_counter()
{statement}
print(time.perf_counter() - began, *[name for name in {heavy!r} if name in sys.modules])
"""


def import_s(statement: str) -> tuple[float, list[str]]:
    """Seconds that the import takes in a fresh interpreter, and which of the heavy modules it loaded."""
    code = _IMPORT.format(statement=statement, heavy=HEAVY)
    seconds, *loaded = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split()
    return float(seconds), loaded


def _imported(name: str, statement: str) -> list[Sample]:
    found = [import_s(statement) for _ in range(ATTEMPTS)]
    loaded = found[0][1]
    if name == "fastq" and loaded:
        raise RuntimeError(f"{statement} has loaded {', '.join(loaded)}")
    value = min(seconds for seconds, _ in found) * 1e3
    return [Sample(measure="import", value=value, unit="ms", better="lower", extras={"loaded": loaded})]


def cold_start(engine: Engine) -> float:
    """Start a worker for one waiting message."""
    with lab() as place:
        place.fill("noop", 1)
        worker = place.worker(engine)
        began = time.monotonic()
        with worker:
            place.until_executed(1, worker=worker)
        ((_, at),) = place.ledger.starts()
    return at - began


def start(_sizes: Sizes) -> list[Case]:
    """Cold start to the first task, and the imports."""
    engines = (FASTQ, CELERY)
    return [
        *(Case(workload="start", system=one.name, run=functools.partial(_samples, one)) for one in engines),
        *(
            Case(workload=workload, system=name, run=functools.partial(_imported, name, statement))
            for (workload, name), statement in IMPORTS.items()
        ),
    ]


def _samples(engine: Engine) -> list[Sample]:
    return [Sample(measure="first-task", value=cold_start(engine), unit="s", better="lower")]
