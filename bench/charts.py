"""The kinds of charts: bars side by side, stacked bars, curves. Each takes values and returns a drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from bench.report import number
from bench.svg import CHARACTER, Drawing

#: Pixels: a bar with its gap, the bar itself, above the first panel, below each panel, at the right of the longest bar.
ROW, THICK, TOP, GAP, RIGHT = 24.0, 14.0, 56.0, 34.0, 150.0

WIDTH = 760.0

#: At the right of stacks, which have all their numbers there.
STACK_RIGHT = 210.0

#: Values this far apart are shown on a logarithmic axis: on a linear one the small ones would be a hair.
FAR_APART = 30.0


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar, with the range of its rounds and what has to be said beside it."""

    label: str
    value: float
    low: float
    high: float
    kind: str
    note: str = ""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Bars on one axis."""

    name: str
    unit: str
    bars: Sequence[Bar]


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of parts: (kind, value)."""

    label: str
    parts: Sequence[tuple[str, float]]

    @property
    def total(self) -> float:
        """All parts."""
        return sum(value for _, value in self.parts)


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One line: (x, y)."""

    label: str
    points: Sequence[tuple[float, float]]
    kind: str
    dashed: bool = False


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """Curves on one pair of axes."""

    name: str
    curves: Sequence[Curve]
    x_name: str
    y_name: str
    log: bool = True


class Axis:
    """From values to pixels."""

    def __init__(self, low: float, high: float, *, start: float, end: float, log: bool) -> None:
        self.log, self._start, self._end = log, start, end
        self.low = 10.0 ** math.floor(math.log10(low)) if log else 0.0
        self.high = high * 1.02

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (math.log10(max(x, 1e-12)) if self.log else x for x in (self.low, self.high, value))
        return self._start + (self._end - self._start) * max(0.0, (value - low) / ((high - low) or 1.0))

    def ticks(self) -> list[float]:
        """Round values inside."""
        if self.log:
            first, last = round(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = 10.0 ** math.floor(math.log10(self.high / 2))
        step *= next(times for times in (1, 2, 5, 10) if self.high / (step * times) <= 6)
        return [step * count for count in range(int(self.high / step) + 1)]


def spread(values: Sequence[float]) -> bool:
    """Whether they need a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > FAR_APART


def short(value: float) -> str:
    """A tick's label: 20k, 1M."""
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def bars(groups: Sequence[Group], *, title: str, about: str) -> Drawing:
    """Horizontal bars, a panel for each group."""
    height = TOP + sum(len(group.bars) * ROW + 2 * GAP for group in groups)
    drawing = Drawing(width=WIDTH, height=height, title=title, about=about)
    drawing.text(16, 28, title, "head ink")
    left = 16 + max(len(bar.label) for group in groups for bar in group.bars) * CHARACTER + 12
    y = TOP
    for group in groups:
        y = _group(drawing, group, left=left, y=y)
    return drawing


def _group(drawing: Drawing, group: Group, *, left: float, y: float) -> float:
    values = [bar.value for bar in group.bars]
    # It begins some way below the least, so that its bar is one.
    axis = Axis(min(values) * 0.7, max(values), start=left, end=WIDTH - RIGHT, log=spread(values))
    drawing.text(16, y + 12, f"{group.name}, {group.unit}{', logarithmic' if axis.log else ''}", "part ink")
    first, last = y + 24, y + 24 + len(group.bars) * ROW
    _ticks(drawing, axis, first=first, last=last)
    for place, bar in enumerate(group.bars):
        middle = first + (place + 0.5) * ROW
        hint = f"{bar.label}: {number(bar.value)} {group.unit} ({number(bar.low)} to {number(bar.high)})"
        drawing.text(left - 8, middle + 4, bar.label, "ink", anchor="end")
        drawing.rect(left, middle - THICK / 2, axis.at(bar.value) - left, THICK, bar.kind, hint=hint)
        if bar.high > bar.low:
            drawing.line([(axis.at(bar.low), middle), (axis.at(bar.high), middle)], "ink", thin=True)
        end = max(axis.at(bar.value), axis.at(bar.high)) + 6
        drawing.text(end, middle + 4, f"{number(bar.value)}{f', {bar.note}' if bar.note else ''}", "ink")
    return last + GAP + 10


def _ticks(drawing: Drawing, axis: Axis, *, first: float, last: float) -> None:
    for tick in axis.ticks():
        x = axis.at(tick)
        drawing.line([(x, first), (x, last)], "grid", thin=True)
        drawing.text(x, last + 14, short(tick), "soft small", anchor="middle")


def stacks(
    parts: Sequence[tuple[str, str]], panels: Sequence[tuple[str, Sequence[Stack]]], *, title: str, about: str
) -> Drawing:
    """Stacked bars. `parts`: (kind, name) for the legend; each panel has a linear axis of its own."""
    height = TOP + 26 + sum(len(some) * ROW + 2 * GAP for _, some in panels)
    drawing = Drawing(width=WIDTH, height=height, title=title, about=about)
    drawing.text(16, 28, title, "head ink")
    _legend(drawing, parts, y=TOP - 4)
    left = 16 + max(len(stack.label) for _, some in panels for stack in some) * CHARACTER + 12
    y = TOP + 22
    for name, some in panels:
        axis = Axis(1, max(stack.total for stack in some), start=left, end=WIDTH - STACK_RIGHT, log=False)
        drawing.text(16, y + 12, name, "part ink")
        first, last = y + 24, y + 24 + len(some) * ROW
        _ticks(drawing, axis, first=first, last=last)
        for place, stack in enumerate(some):
            _stack(drawing, stack, axis, middle=first + (place + 0.5) * ROW, left=left, names=dict(parts))
        y = last + GAP + 10
    return drawing


def _stack(drawing: Drawing, stack: Stack, axis: Axis, *, middle: float, left: float, names: dict[str, str]) -> None:
    drawing.text(left - 8, middle + 4, stack.label, "ink", anchor="end")
    x, sum_so_far = left, 0.0
    for kind, value in stack.parts:
        sum_so_far += value
        end = axis.at(sum_so_far)
        if value:
            drawing.rect(x, middle - THICK / 2, end - x, THICK, kind, hint=f"{names[kind]}: {number(value)} µs")
        x = end
    each = " + ".join(number(value) for _, value in stack.parts if value)
    drawing.text(
        x + 6, middle + 4, f"{number(stack.total)} = {each}" if "+" in each else number(stack.total), "ink small"
    )


def _legend(drawing: Drawing, parts: Sequence[tuple[str, str]], *, y: float) -> None:
    x = 16.0
    for kind, name in parts:
        drawing.rect(x, y, 12, 12, kind)
        drawing.text(x + 18, y + 10, name, "ink")
        x += 18 + len(name) * CHARACTER + 20


def curves(panels: Sequence[Panel], *, title: str, about: str, each_height: float = 250.0) -> Drawing:
    """Lines with points, a panel below the other. Labels stand in the order of the lines' ends."""
    height = TOP + len(panels) * (each_height + 2 * GAP)
    drawing = Drawing(width=WIDTH, height=height, title=title, about=about)
    drawing.text(16, 28, title, "head ink")
    for place, panel in enumerate(panels):
        _panel(drawing, panel, top=TOP + place * (each_height + 2 * GAP), height=each_height)
    return drawing


def _panel(drawing: Drawing, panel: Panel, *, top: float, height: float) -> None:
    xs, ys = ([point[way] for curve in panel.curves for point in curve.points] for way in (0, 1))
    across = Axis(min(xs), max(xs), start=70, end=WIDTH - RIGHT, log=panel.log)
    up = Axis(min(ys), max(ys), start=top + 24 + height - 34, end=top + 24, log=panel.log)
    logs = ", both axes logarithmic" if panel.log else ""
    drawing.text(16, top + 12, f"{panel.name}: {panel.y_name} over {panel.x_name}{logs}", "part ink")
    _ticks(drawing, across, first=top + 24, last=top + height - 10)
    for tick in up.ticks():
        drawing.line([(70, up.at(tick)), (WIDTH - RIGHT, up.at(tick))], "grid", thin=True)
        drawing.text(62, up.at(tick) + 4, short(tick), "soft small", anchor="end")
    ordered = sorted(panel.curves, key=lambda one: up.at(one.points[-1][1]))
    for place, curve in enumerate(ordered):
        points = [(across.at(x), up.at(y)) for x, y in curve.points]
        drawing.line(points, curve.kind, dashed=curve.dashed)
        for (x, y), (value, found) in zip(points, curve.points, strict=True):
            drawing.dot(x, y, curve.kind, hint=f"{curve.label}: {number(found)} at {number(value)}")
        label_y = top + 36 + place * 16
        drawing.dot(WIDTH - RIGHT + 24, label_y - 4, curve.kind)
        drawing.text(WIDTH - RIGHT + 34, label_y, curve.label, "ink")
