"""Draw the pictures and write the tables of the docs: `python -m bench.pictures [RESULTS ...]` (`make bench-pictures`).

What is in the docs about figures is made here from results files, which it names; `--check` (and a test) tells whether
it still is what they say. Without arguments: the newest results of `make bench` and of `make bench-full`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from bench import behind, charts, report
from bench.charts import Bar, Curve, Group, Panel, Stack
from bench.kept import in_order
from bench.measurement import Measurement, Results, load
from bench.processes import ROOT
from bench.svg import SERIES, Drawing

RESULTS = ROOT / "bench" / "results"
DOCS = Path("docs/benchmarks")
PAGE, TABLES, FRONT = DOCS / "README.md", DOCS / "results.md", Path("README.md")

OURS, FLOOR = "fastq", "floor"

_BLOCK = re.compile(r"<!-- figures(?: from (?P<files>[^>]*?))? -->\n.*?<!-- end of figures -->", re.DOTALL)

#: Systems with an agent of monitoring are in the tables only.
_AGENTS = re.compile(r"\+(sentry|opentelemetry)$")

#: Workload and what it is called under a picture.
NAMES = {
    "noop": "no-op, results off",
    "stored": "no-op, results stored",
    "late": "late acknowledgement, results stored",
    "cpu": "1 ms of computing",
    "sleep": "10 ms asleep",
    "get": "delay().get(), stock client",
    "get-lean": "the same, lean client",
    "calls": "delay().get(), one after the other",
    "pss": "4 children, application of Django's size",
    "memory": "2 children, idle",
}

ROLES = (("ours", "worker's main process"), ("s1", "children"), ("s0", "Redis"))


class Source:
    """Results files as one: the first that has a measurement wins."""

    def __init__(self, files: Sequence[tuple[str, Results]]) -> None:
        self.files = files

    @property
    def names(self) -> str:
        """For the pictures' descriptions."""
        return ", ".join(name for name, _ in self.files)

    def all(self, workload: str, measure: str) -> list[Measurement]:
        """Every system's, with its best settings, of the file with the most systems."""
        found = [
            [
                one
                for one in results.measurements
                if (one.workload, one.measure) == (workload, measure) and one.values and not _AGENTS.search(one.system)
            ]
            for _, results in self.files
        ]
        best = max(found, key=lambda ones: len({one.system for one in ones} - {FLOOR}), default=[])
        chosen: dict[str, Measurement] = {}
        for one in best:
            if one.system not in chosen or one.settings == "tuned":
                chosen[one.system] = one
        floors = [one for ones in found for one in ones if one.system == FLOOR]
        return [*chosen.values(), *(floor for floor in floors[:1] if FLOOR not in chosen)]

    def workloads(self) -> list[str]:
        """All, in the files' order."""
        return list(dict.fromkeys(one.workload for _, results in self.files for one in results.measurements))

    def systems(self) -> list[str]:
        """All but ours and the floor, in the files' order: each has its colour by its place."""
        found = dict.fromkeys(one.system for _, results in self.files for one in results.measurements)
        return [name for name in found if name != FLOOR and not name.startswith(OURS)]

    def kind(self, system: str) -> str:
        """The colour of a system. What has ours in it is near ours: `fastq-native`, `fastq+celery`."""
        if system.startswith(OURS):
            return "ours" if system == OURS else "kin"
        return "floor" if system == FLOOR else SERIES[self.systems().index(system) % len(SERIES)]


# ---------------------------------------------------------------------------- pictures


def _group(source: Source, workload: str, measure: str, *, name: str = "") -> Group | None:
    ones = [one for one in source.all(workload, measure) if one.median > 0]
    if not any(one.system == OURS for one in ones):
        return None
    ordered = sorted(ones, key=lambda one: one.median, reverse=ones[0].better == "higher")
    return Group(
        name=name or NAMES.get(workload, workload), unit=ones[0].unit, bars=[_bar(source, one) for one in ordered]
    )


def _bar(source: Source, one: Measurement) -> Bar:
    wrong = [f"{count:,} {word}" for count, word in ((one.lost, "lost"), (one.repeated, "repeated")) if count]
    return Bar(
        label=one.system,
        value=one.median,
        low=one.low,
        high=one.high,
        kind=source.kind(one.system),
        note=", ".join(wrong),
    )


def _bars(source: Source, title: str, wanted: Iterable[tuple[str, str, str]]) -> Drawing | None:
    groups = [group for workload, measure, name in wanted if (group := _group(source, workload, measure, name=name))]
    if not groups:
        return None
    about = "; ".join(
        f"{g.name}: " + ", ".join(f"{b.label} {report.number(b.value)} {g.unit}" for b in g.bars) for g in groups
    )
    return charts.bars(groups, title=title, about=f"{about}. Drawn from {source.names}.")


def throughput(source: Source) -> Drawing | None:
    """Tasks per second of every system."""
    wanted = [(name, "rate", "") for name in ("noop", "stored", "late", "cpu", "sleep")]
    return _bars(source, "Tasks per second, two children (the thin line: range of the rounds)", wanted)


def headline(source: Source) -> Drawing | None:
    """The one for the README."""
    return _bars(source, "Tasks per second, no-op, two children", [("noop", "rate", ""), ("stored", "rate", "")])


def calls(source: Source) -> Drawing | None:
    """How long one call takes."""
    workloads = [name for name in ("get", "get-lean", "calls") if name in source.workloads()]
    wanted = [(name, measure, f"{NAMES[name]}, {measure}") for name in workloads for measure in ("p50", "p99")]
    return _bars(source, "One call at a time", wanted)


def memory(source: Source) -> Drawing | None:
    """Memory of whole workers."""
    wanted = [
        ("memory", "idle", "2 children, idle"),
        ("memory", "after", "2 children, after the tasks"),
        ("pss", "pss", ""),
    ]
    return _bars(source, "Memory of a worker (PSS: shared pages counted once)", wanted)


def latency(source: Source) -> Drawing | None:
    """Open loop: latency over load, at 10, 50 and 80 % of what each system can do."""
    panels = [panel for quantile in ("p50", "p99", "p99.9") if (panel := _latency_panel(source, quantile))]
    if not panels:
        return None
    about = "Messages sent at a steady pace, latency counted from the planned moment of each to the start of its task."
    return charts.curves(panels, title="Latency at a steady load", about=f"{about} Drawn from {source.names}.")


def _latency_panel(source: Source, quantile: str) -> Panel | None:
    points: dict[str, list[tuple[float, float]]] = {}
    for share in (10, 50, 80):
        for one in source.all("steady", f"{share} % {quantile}"):
            if one.extras and "rate" in one.extras[0] and one.median > 0:
                points.setdefault(one.system, []).append((_median_rate(one), one.median))
    found = [
        Curve(label=system, points=sorted(some), kind=source.kind(system)) for system, some in points.items() if some
    ]
    return Panel(name=quantile, curves=found, x_name="tasks/s", y_name="ms") if found else None


def _median_rate(one: Measurement) -> float:
    rates = sorted(float(extra["rate"]) for extra in one.extras if "rate" in extra)
    return max(1.0, rates[len(rates) // 2])


def cost(source: Source) -> Drawing | None:
    """CPU time per task by role."""
    panels = []
    for workload in ("noop", "stored"):
        found = [_stack(one) for one in source.all(workload, "rate") if one.cpu_us is not None]
        ordered = sorted(found, key=lambda stack: stack.total)
        small = [stack for stack in ordered if stack.total * charts.FAR_APART < max(one.total for one in ordered)]
        panels += [(f"{NAMES[workload]}, µs of CPU per task", ordered)] if ordered else []
        panels += [("the smallest of them, on an axis of their own", small)] if small else []
    if not panels:
        return None
    about = "; ".join(f"{stack.label} {report.number(stack.total)} µs" for _, some in panels for stack in some)
    return charts.stacks(
        ROLES, panels, title="What a task costs, by role", about=f"{about}. Drawn from {source.names}."
    )


def _stack(one: Measurement) -> Stack:
    used = one.cpu_us
    assert used is not None
    parts = ((ROLES[0][0], used.engine + used.nursery), (ROLES[1][0], used.children), (ROLES[2][0], used.redis))
    return Stack(label=one.system, parts=parts)


def scaling(source: Source) -> Drawing | None:
    """From one child to many."""
    panels = []
    for task, name in (("brief", "tasks of 1 ms"), ("stored", "no-op, results stored")):
        points = sorted(
            (int(workload.rpartition("-")[2]), ones[0].median)
            for workload in source.workloads()
            if workload.startswith(f"{task}-children-") and (ones := source.all(workload, "rate"))
        )
        if len(points) > 1:
            each = points[0][1] / points[0][0]
            ideal = [(count, each * count) for count, _ in points]
            found = (
                Curve(label=OURS, points=points, kind="ours"),
                Curve(label="n × the first", points=ideal, kind="soft", dashed=True),
            )
            panels.append(Panel(name=name, curves=found, x_name="children", y_name="tasks/s", log=False))
    if not panels:
        return None
    return charts.curves(
        panels, title="More children", about=f"Tasks per second by children. Drawn from {source.names}."
    )


PICTURES: dict[str, Callable[[Source], Drawing | None]] = {
    "headline": headline,
    "throughput": throughput,
    "calls": calls,
    "latency": latency,
    "cost": cost,
    "memory": memory,
    "scaling": scaling,
}

#: What stands above each picture on the page.
CAPTIONS = {
    "throughput": "Throughput",
    "calls": "One call at a time",
    "latency": "Latency at a steady load",
    "cost": "What a task costs, by role",
    "memory": "Memory",
    "scaling": "More children",
}


# ---------------------------------------------------------------------------- files


def make(files: Sequence[Path], *, root: Path = ROOT) -> dict[Path, str]:
    """Everything in the docs that is made from these results: path (from the root) and content."""
    source = Source([(str(file.resolve().relative_to(root)), load(file)) for file in files])
    _of_one_commit(source)
    drawn = {name: drawing for name, draw in PICTURES.items() if (drawing := draw(source))}
    made = {DOCS / f"{name}.svg": drawing.source() for name, drawing in drawn.items()}
    made[TABLES] = _tables(source)
    made[PAGE] = _fill((root / PAGE).read_text(), _page(source, drawn), source.names)
    made[FRONT] = _fill((root / FRONT).read_text(), _front(source), source.names)
    return made


def _of_one_commit(source: Source) -> None:
    """Parts of the full suite belong together only if they measured the same code."""
    commits = {str(results.about["commit"]) for _, results in source.files if results.size == "full"}
    if len(commits) > 1:
        raise ValueError(f"results of the full suite are of several commits: {', '.join(sorted(commits))}")


def _fill(page: str, content: str, names: str) -> str:
    """Put content into a page's block."""
    if not _BLOCK.search(page):
        raise ValueError("a page has lost its `<!-- figures -->` block")
    block = f"<!-- figures from {names} -->\n{content}\n<!-- end of figures -->"
    return _BLOCK.sub(lambda _: block, page, count=1)


def _page(source: Source, drawn: Iterable[str]) -> str:
    lines = []
    for name in drawn:
        if name in CAPTIONS:
            lines += [f"### {CAPTIONS[name]}", "", f"![{CAPTIONS[name]}]({name}.svg)", ""]
    lines += ["### Where fastq is behind, and why", "", _BEHIND, "", behind.section(_whole(source)), ""]
    return "\n".join([*lines, "[All figures as tables](results.md), what was lost and repeated among them."])


_BEHIND = (
    "Every measure in which all rounds of another system were better than all rounds of fastq's best form "
    "(`bench/behind.py`); the reasons are kept in `bench/notes.py`."
)


def _whole(source: Source) -> list[Results]:
    """The files, those of the full suite as one: systems of different parts are compared."""
    full = [results for _, results in source.files if results.size == "full"]
    ones = {one.key: one for results in full for one in results.measurements}
    rest = [results for _, results in source.files if results.size != "full"]
    return rest + [msgspec.structs.replace(results, measurements=tuple(ones.values())) for results in full[:1]]


def _front(source: Source) -> str:
    results = next((results for _, results in source.files if results.size != "full"), source.files[0][1])
    return "\n".join([f"![Tasks per second]({DOCS}/headline.svg)", "", report.front(results)])


def _tables(source: Source) -> str:
    parts = ["# All figures", "", f"Made by `python -m bench.pictures {source.names.replace(',', '')}`.", ""]
    for name, results in source.files:
        promised = [report.headline(results), ""] if results.size != "full" else []
        parts += [f"## {name}", "", *promised, report.everything(results), ""]
    return "\n".join(parts)


def named(page: str) -> list[str]:
    """The results files that a page was made from; empty if it was made from none yet."""
    found = _BLOCK.search(page)
    return [name.strip() for name in (found["files"] or "").split(",") if name.strip()] if found else []


def stale(root: Path = ROOT) -> Iterator[Path]:
    """What is not what the results say that it names."""
    files = [root / name for name in named((root / PAGE).read_text())]
    made = make(files, root=root) if files else {}
    for path, content in made.items():
        if not (root / path).exists() or (root / path).read_text() != content:
            yield path
    yield from _left_over(made, root=root)


def _left_over(made: Iterable[Path], *, root: Path) -> list[Path]:
    """Pictures of other results."""
    return sorted({path.relative_to(root) for path in (root / DOCS).glob("*.svg")} - set(made))


def newest(folder: Path = RESULTS) -> list[Path]:
    """The last results of each size that is for people. Says on stderr which files it cannot read."""
    ordered = in_order(sorted(folder.glob("*.json")), leave=lambda line: print(line, file=sys.stderr))
    found = {results.size: path for path, results in ordered}
    return [found[size] for size in ("normal", "full") if size in found]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures and tables, or check them."""
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", nargs="*", type=Path, help="results files; the newest of each size unless given")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something is not as it says")
    chosen = parser.parse_args(arguments)
    if chosen.check:
        wrong = list(stale())
        print("\n".join(f"{path} is not made from the results it names" for path in wrong) or "all is as it says")
        return 1 if wrong else 0
    files = chosen.results or newest()
    if not files:
        print("there are no results yet: make bench", file=sys.stderr)
        return 2
    made = make(files)
    for path in _left_over(made, root=ROOT):
        (ROOT / path).unlink()
    for path, content in made.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(content)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
