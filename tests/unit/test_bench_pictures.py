"""What the docs show of figures is what the results files say that they name, and is readable by everybody."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from bench import kept, pictures, report
from bench.measurement import Better, Measurement, Results, Roles, load
from bench.processes import ROOT

SVG = "{http://www.w3.org/2000/svg}"

ABOUT: dict[str, Any] = {
    "date": "2026-11-20",
    "commit": "abc1234",
    "machine": "one, 2 cores",
    "pinning": "not pinned",
    "system": "Linux",
    "python": "3.11",
    "redis": "Redis",
    "packages": {"celery": "5.7.0"},
    "celery_tuning": "-O fair",
    "warnings": ["something runs"],
}


def measured(workload: str, measure: str, system: str, value: float, better: Better, **more: Any) -> Measurement:
    values = (value, value * 1.1, value * 0.9)
    return Measurement(workload=workload, measure=measure, system=system, values=values, better=better, **more)


def headline() -> Results:
    used = Roles(engine=2.0, children=3.5, redis=4.0)
    rates = {"fastq": 300_000.0, "celery": 1_000.0, "floor": 480_000.0}
    found = [
        measured(workload, "rate", system, rate, "higher", unit="tasks/s", cpu_us=used)
        for workload in ("noop", "stored")
        for system, rate in rates.items()
    ]
    found += [
        measured(f"brief-children-{count}", "rate", "fastq", 900.0 * count, "higher", unit="tasks/s")
        for count in (1, 2, 4)
    ]
    found += [measured("get", q, system, 0.5, "lower", unit="ms") for q in ("p50", "p99") for system in rates]
    return Results(about=ABOUT, size="normal", rounds=3, rounds_done=3, measurements=tuple(found))


def full() -> Results:
    found = [
        measured("noop", "rate", system, rate, "higher", unit="tasks/s", settings="tuned", lost=lost)
        for system, rate, lost in (("fastq", 290_000.0, 0), ("celery", 1_000.0, 0), ("rq", 170.0, 12))
    ]
    found += [
        measured("steady", f"{share} % {q}", system, 1.0, "lower", unit="ms", extras=({"rate": rate * share},))
        for share in (10, 50, 80)
        for q in ("p50", "p99", "p99.9")
        for system, rate in (("fastq", 2900.0), ("rq", 1.7))
    ]
    return Results(about=ABOUT, size="full", rounds=3, rounds_done=3, measurements=tuple(found))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with two results files and pages that show none yet."""
    headline().save(tmp_path / "bench/results/one.json")
    full().save(tmp_path / "bench/results/one-full.json")
    for page in (pictures.PAGE, pictures.FRONT):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text("before\n\n<!-- figures -->\nnone\n<!-- end of figures -->\n\nafter\n")
    return tmp_path


def made(root: Path) -> dict[Path, str]:
    files = [root / "bench/results/one.json", root / "bench/results/one-full.json"]
    return pictures.make(files, root=root)


def test_every_picture_has_text_a_title_and_both_colour_schemes(root: Path) -> None:
    drawn = {path.stem: text for path, text in made(root).items() if path.suffix == ".svg"}
    assert set(drawn) == {"headline", "throughput", "calls", "latency", "cost", "scaling"}
    for text in drawn.values():
        svg = ElementTree.fromstring(text)
        labels = str(svg.get("aria-labelledby")).split()
        assert svg.get("role") == "img"
        assert [svg.find(f"{SVG}title").get("id"), svg.find(f"{SVG}desc").get("id")] == labels  # type: ignore[union-attr]
        assert "bench/results/one.json" in str(svg.findtext(f"{SVG}desc"))
        assert "prefers-color-scheme:dark" in str(svg.findtext(f"{SVG}style"))
        assert len(svg.findall(f"{SVG}text")) > 5


def test_a_system_that_loses_is_shown_as_such_and_far_apart_is_logarithmic(root: Path) -> None:
    text = made(root)[pictures.DOCS / "throughput.svg"]
    words = [str(each.text) for each in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert "170, 12 lost" in words
    assert "no-op, results off, tasks/s, logarithmic" in words
    assert {"fastq", "celery", "rq", "floor"} <= set(words)


def test_what_was_made_from_other_results_is_found(root: Path) -> None:
    assert list(pictures.stale(root)) == []
    for path, text in made(root).items():
        (root / path).write_text(text)
    assert pictures.named((root / pictures.PAGE).read_text()) == [
        "bench/results/one.json",
        "bench/results/one-full.json",
    ]
    assert list(pictures.stale(root)) == []
    assert made(root)[pictures.FRONT] == (root / pictures.FRONT).read_text()
    page = root / pictures.FRONT
    page.write_text(page.read_text().replace("300 ×", "301 ×"))
    assert list(pictures.stale(root)) == [pictures.FRONT]


def test_the_headline_says_what_was_promised_and_what_was_wrong(root: Path) -> None:
    text = report.headline(load(root / "bench/results/one.json"))
    first = next(line for line in text.splitlines() if line.startswith("| no-op, results ignored"))
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells[1] == "300,000/s (270,000 to 330,000)"
    assert cells[4:] == ["**300 ×**", "60 × Celery", "yes"]
    assert "The machine was not cold: something runs." in text
    assert "| **12 lost**" not in text


def test_the_docs_show_what_their_results_say() -> None:
    assert list(pictures.stale(ROOT)) == [], "run: make bench-pictures"


def test_parts_of_the_full_suite_are_one_if_they_are_of_one_commit(root: Path) -> None:
    whole = full()
    part = msgspec.structs.replace(whole, measurements=tuple(one for one in whole.measurements if one.system == "rq"))
    rest = msgspec.structs.replace(whole, measurements=tuple(one for one in whole.measurements if one.system != "rq"))
    files = [root / "bench/results/one.json"]
    for number, results in enumerate((rest, part)):
        files.append(root / f"bench/results/{number}-full.json")
        results.save(files[-1])
    page = pictures.make(files, root=root)[pictures.PAGE]
    assert "| steady: 10 % p50 |" not in page
    better = tuple(msgspec.structs.replace(one, values=(0.1, 0.1)) for one in part.measurements)
    msgspec.structs.replace(part, measurements=better).save(files[-1])
    page = pictures.make(files, root=root)[pictures.PAGE]
    assert "| steady: 10 % p50 | fastq: 1.00 ms (0.90 to 1.10) | rq: 0.10 ms (0.10 to 0.10) | Every system" in page
    msgspec.structs.replace(part, about={**ABOUT, "commit": "def"}).save(files[-1])
    with pytest.raises(ValueError, match="several commits: abc1234, def"):
        pictures.make(files, root=root)


def keep(folder: Path, name: str, *, age_s: int = 0, **about: str) -> Path:
    """A results file that says this of itself, and whose time says something else."""
    path = folder / f"{name}.json"
    msgspec.structs.replace(headline(), about={**ABOUT, **about}).save(path)
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    return path


def test_the_newest_results_are_the_newest_by_what_they_say(tmp_path: Path) -> None:
    last = keep(tmp_path, "a", date="2026-11-21", age_s=1000)
    keep(tmp_path, "b", date="2026-11-20")
    assert pictures.newest(tmp_path) == [last]


def test_of_one_day_the_results_of_the_later_commit_are_newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"abc": 200, "def": 100}
    monkeypatch.setattr(kept, "_committed_at", times.__getitem__)
    last = keep(tmp_path, "a", commit="abc-dirty", age_s=1000)
    keep(tmp_path, "b", commit="def")
    assert pictures.newest(tmp_path) == [last]


def test_when_a_commit_was_made_is_asked_of_git() -> None:
    in_git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if in_git.returncode == 0:
        assert kept._committed_at(in_git.stdout.strip()[:10]) > 1_700_000_000
    assert kept._committed_at("f" * 40) == 0
    assert kept._committed_at("--help") == 0


def test_a_file_that_cannot_be_read_is_named_with_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = keep(tmp_path, "a")
    for name, text in (("old", '{"rates": []}'), ("half", '{"format": 2'), ("bare", '{"format": 2}')):
        (tmp_path / f"{name}.json").write_text(text)
    assert pictures.newest(tmp_path) == [last]
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(".json: ")[0].rpartition("/")[2] for line in said] == ["bare", "half", "old"]
    assert said[2].endswith("it is of another format, which is not read any more: measure that commit again")
