"""Say what both engines made of Celery's tests, side by side, and which ones fastq owes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.celery_suite.run import Results

#: How many lines of a failure are shown; all of it is in the reports.
_LINES = 12


def owed(fastq: Results, celery: Results) -> list[str]:
    """The tests that pass with `celery worker` and do not with fastq."""
    return [name for name in celery.named("passed") if name not in fastq.tests or fastq.tests[name].outcome != "passed"]


def side_by_side(engines: Sequence[Results], *, not_applicable: Mapping[str, Sequence[str]]) -> str:
    """The whole report."""
    return "\n".join([*_table(engines), *_reasons(not_applicable), *_differences(engines)])


def _table(engines: Sequence[Results]) -> Iterator[str]:
    yield f"{'':28}" + "".join(f"{_title(results):>18}" for results in engines)
    for outcome in ("passed", "failed", "skipped"):
        yield f"{outcome:28}" + "".join(f"{len(results.named(outcome)):>18}" for results in engines)
    yield f"{'passed when repeated alone':28}" + "".join(f"{len(results.repeated):>18}" for results in engines)
    yield f"{'seconds':28}" + "".join(f"{results.seconds:>18.0f}" for results in engines)


def _title(results: Results) -> str:
    return {"celery": "celery worker", "fastq": "fastq worker"}[results.engine]


def _reasons(not_applicable: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if not_applicable:
        yield "\nnot run, because it cannot apply:"
    for reason, patterns in not_applicable.items():
        yield f"- {reason}:"
        yield from (f"    {pattern}" for pattern in patterns)


def _differences(engines: Sequence[Results]) -> Iterator[str]:
    for results in engines:
        for outcome in ("failed", "skipped"):
            for name in results.named(outcome):
                yield f"\n{outcome} with {_title(results)}: {name}"
                yield from (f"    {line}" for line in results.tests[name].why.splitlines()[-_LINES:])
        for name in sorted(results.repeated):
            yield f"\nfailed once with {_title(results)}, passed alone: {name}"
