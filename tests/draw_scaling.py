"""Draw docs/operate/scaling.svg, the picture of autoscaling, from the simulator: `python -m tests.draw_scaling`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastq.worker.processes.autoscale import Bounds
from tests.autoscale_lab import MIB, Machine, Point, Simulation, Work, at_once, every, together

TARGET = Path(__file__).parents[1] / "docs" / "operate" / "scaling.svg"

GIB = 1024 * MIB

#: Of one plot, in pixels; two stand beside each other.
WIDTH, HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 370, 120, 40, 56, 50, 62

#: Colours that can be told apart on white and on black, and by most colour-blind readers.
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a; }
  .title { font-weight: 600; fill: #24292f; }
  .axis { stroke: #8c959f; stroke-width: 1; fill: none; }
  .children { stroke: #0969da; stroke-width: 2; fill: none; }
  .busy { fill: #54aeff; fill-opacity: 0.35; stroke: none; }
  .waiting { stroke: #bc4c00; stroke-width: 1.5; fill: none; stroke-dasharray: 4 3; }
  .cores { stroke: #8c959f; stroke-width: 1; stroke-dasharray: 1 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; }
    .title { fill: #f0f6fc; }
    .children { stroke: #58a6ff; }
    .busy { fill: #1f6feb; fill-opacity: 0.45; }
    .waiting { stroke: #ffa657; }
  }
"""

WAITS = Work(wait_s=1.0, cpu_s=0.005)


def loads() -> list[tuple[str, Simulation, float]]:
    """What is drawn: title, simulation, seconds."""
    bounds = Bounds(most=40, least=2, cpus=4)
    computes = Work(cpu_s=0.5)
    leaks = Work(wait_s=0.5, cpu_s=0.005, leak_bytes=MIB)
    return [
        ("A burst of 200 tasks that wait a second", Simulation(at_once(5, WAITS, count=200), bounds=bounds), 60),
        ("A sawtooth: 20 tasks every 10 s", Simulation(every(10, WAITS, count=20), bounds=bounds), 120),
        ("Tasks that wait, 30 a second", Simulation(every(0.1, WAITS, count=3), bounds=bounds), 60),
        ("Tasks that compute, more than four cores can", Simulation(every(0.1, computes, count=2), bounds=bounds), 60),
        (
            "Tasks that leak 1 MiB each; children leave at 100 MiB",
            Simulation(
                every(0.1, leaks, count=10), bounds=bounds, recycle_bytes=60 * MIB, machine=Machine(memory=3 * GIB)
            ),
            120,
        ),
        (
            "A neighbour takes 6 of 8 GiB from 20 s to 60 s",
            Simulation(
                together(every(0.1, WAITS, count=4)),
                bounds=bounds,
                neighbour=lambda now_s: 6 * GIB if 20 <= now_s < 60 else 0,
                machine=Machine(child=120 * MIB),
            ),
            140,
        ),
    ]


def path(points: list[Point], value: Callable[[Point], float], *, until_s: float, top: float) -> str:
    """Points as x,y pairs of a polyline; steps that change nothing are left out."""
    found: list[tuple[float, float]] = []
    for point in points:
        x = LEFT + WIDTH * point.at_s / until_s
        y = TOP + HEIGHT * (1 - min(value(point), top) / top)
        if len(found) > 1 and found[-1][1] == found[-2][1] == y:
            found.pop()
        found.append((x, y))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in found)


def plot(title: str, simulation: Simulation, until_s: float, *, x: float, y: float) -> str:
    points = simulation.run(until_s).points
    top = 44.0
    children = path(points, lambda p: p.children, until_s=until_s, top=top)
    busy = path(points, lambda p: p.busy, until_s=until_s, top=top)
    waiting = path(points, lambda p: p.queue, until_s=until_s, top=top)
    base, right = TOP + HEIGHT, LEFT + WIDTH
    cores = TOP + HEIGHT * (1 - simulation.machine.cores / top)
    marks = "".join(
        f'<text x="{LEFT - 6}" y="{TOP + HEIGHT * (1 - n / top) + 4:.1f}" text-anchor="end">{n}</text>'
        for n in (0, 20, 40)
    )
    seconds = "".join(
        f'<text x="{LEFT + WIDTH * part:.1f}" y="{base + 16}" text-anchor="middle">{until_s * part:g} s</text>'
        for part in (0, 0.5, 1)
    )
    return f"""<g transform="translate({x},{y})">
<text class="title" x="{LEFT}" y="{TOP - 12}">{title}</text>
<polygon class="busy" points="{LEFT},{base} {busy} {right},{base}"/>
<line class="cores" x1="{LEFT}" x2="{right}" y1="{cores:.1f}" y2="{cores:.1f}"/>
<polyline class="waiting" points="{waiting}"/>
<polyline class="children" points="{children}"/>
<path class="axis" d="M{LEFT},{TOP} V{base} H{right}"/>
{marks}{seconds}
</g>"""


def legend() -> str:
    entries = [("children", "children"), ("waiting", "messages that wait (cut off at 44)"), ("cores", "cores")]
    parts = [f'<rect class="busy" x="{LEFT}" y="8" width="24" height="12"/><text x="{LEFT + 30}" y="18">busy</text>']
    x = LEFT + 80
    for kind, words in entries:
        parts.append(
            f'<line class="{kind}" x1="{x}" x2="{x + 24}" y1="14" y2="14"/><text x="{x + 30}" y="18">{words}</text>'
        )
        x += 60 + 7 * len(words)
    return "".join(parts)


def draw() -> str:
    """The whole picture."""
    plots = [
        plot(title, simulation, until_s, x=(n % 2) * (WIDTH + GAP_X), y=10 + (n // 2) * (HEIGHT + GAP_Y))
        for n, (title, simulation, until_s) in enumerate(loads())
    ]
    width, height = 2 * WIDTH + GAP_X + LEFT + 30, 3 * (HEIGHT + GAP_Y) + 40
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    words = "<title>How many children there are under six loads</title>"
    return "\n".join([head, words, f"<style>{STYLE}</style>", legend(), *plots, "</svg>"]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(draw())
