"""Write SVG by hand: shapes, text that stays text, a palette for light and dark, a title and a description for readers.

Colours are classes, so that a reader's colour scheme decides (`prefers-color-scheme`); a renderer that knows no media
queries shows the light ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

#: Class, light, dark. Series are told apart by lightness, too, and always have a label beside them.
_PALETTE = (
    ("ground", "#ffffff", "#0d1117"),
    ("ink", "#1f2328", "#e6edf3"),
    ("soft", "#59636e", "#9198a1"),
    ("grid", "#d1d9e0", "#2f353d"),
    ("ours", "#0a7d52", "#3fb984"),
    ("kin", "#6fb798", "#23714f"),
    ("floor", "#aab2bb", "#5a636e"),
    ("s0", "#b35900", "#f0a04b"),
    ("s1", "#3566c8", "#7aa5f5"),
    ("s2", "#8a3fb5", "#c58af0"),
    ("s3", "#b8323f", "#f47d86"),
    ("s4", "#6b6b00", "#c9c940"),
    ("s5", "#0c7a8f", "#4cc3d9"),
    ("s6", "#7d5a3c", "#c9a27f"),
    ("s7", "#4a4a8a", "#a3a3e0"),
    ("s8", "#8f2b6b", "#e888c4"),
)

#: Classes of series, in the order in which they are given away.
SERIES = tuple(name for name, _, _ in _PALETTE if name[0] == "s" and name[1:].isdigit())

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"

#: Width of a character of 12 px, about: to leave room for labels. Nothing is cut by it.
CHARACTER = 6.7


def _style(column: int) -> str:
    return "".join(f".{rule[0]}{{fill:{rule[column]}}}.l-{rule[0]}{{stroke:{rule[column]}}}" for rule in _PALETTE)


STYLE = (
    f"text{{font:12px {FONT};font-variant-numeric:tabular-nums}}.head{{font-size:16px;font-weight:600}}"
    ".part{font-weight:600}.small{font-size:11px}.line{fill:none;stroke-width:2}.thin{fill:none;stroke-width:1}"
    f"{_style(1)}@media (prefers-color-scheme:dark){{{_style(2)}}}"
)


class Drawing:
    """One picture: add shapes, then `text()`."""

    def __init__(self, *, width: float, height: float, title: str, about: str) -> None:
        self.width, self.height = width, height
        self._head = (title, about)
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, kind: str, *, hint: str = "") -> None:
        """A filled rectangle; `hint` shows when a pointer rests on it."""
        shape = f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(max(0.5, width))}" height="{_n(height)}"'
        self._parts.append(f"{shape}><title>{escape(hint)}</title></rect>" if hint else f"{shape}/>")

    def line(
        self, points: Sequence[tuple[float, float]], kind: str, *, dashed: bool = False, thin: bool = False
    ) -> None:
        """A line through points."""
        path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        dashes = ' stroke-dasharray="4 4"' if dashed else ""
        self._parts.append(f'<path class="{"thin" if thin else "line"} l-{kind}" d="{path}"{dashes}/>')

    def dot(self, x: float, y: float, kind: str, *, hint: str = "") -> None:
        """A point of a curve."""
        shape = f'<circle class="{kind}" cx="{_n(x)}" cy="{_n(y)}" r="3.5"'
        self._parts.append(f"{shape}><title>{escape(hint)}</title></circle>" if hint else f"{shape}/>")

    def text(self, x: float, y: float, words: str, kind: str = "ink", *, anchor: str = "start") -> None:
        """Text with its baseline at `y`."""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}"{where}>{escape(words)}</text>')

    def source(self) -> str:
        """The file."""
        title, about = self._head
        size = f'width="{_n(self.width)}" height="{_n(self.height)}" viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title about">',
                f'<title id="title">{escape(title)}</title>',
                f'<desc id="about">{escape(about)}</desc>',
                f"<style>{STYLE}</style>",
                f'<rect class="ground" width="{_n(self.width)}" height="{_n(self.height)}"/>',
                *self._parts,
                "</svg>\n",
            ]
        )


def _n(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.1f}".removesuffix(".0")
