"""A terminal's screen as a picture in SVG, from its own escape sequences, and the text of such a picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from xml.etree import ElementTree
from xml.sax.saxutils import escape

CELL_WIDTH, CELL_HEIGHT = 8.4, 18
FONT_SIZE = 14
MARGIN = 12
NO_BREAK = "\N{NO-BREAK SPACE}"
"""For every space: browsers don't agree on when an SVG's spaces are kept."""
BACKGROUND, FOREGROUND = "#1d1f21", "#d7dadc"
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"

_ANSI = (
    *("#282a2e", "#d9605a", "#8fbf6a", "#dcb667", "#6f9fd8", "#b58ed0", "#6dbdb4", "#c5c8c6"),
    *("#555b62", "#ee7a74", "#a9d68a", "#efcd84", "#8fb9ec", "#cbaae3", "#8ad4cb", "#f2f4f5"),
)
_CUBE = (0, 95, 135, 175, 215, 255)
_SEQUENCE = re.compile(r"\x1b\[([\d;]*)m")
_SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True, slots=True)
class Style:
    """How a cell looks; a colour is None where it is the terminal's own."""

    foreground: str | None = None
    background: str | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    reverse: bool = False

    @property
    def ink(self) -> str:
        return (self.background or BACKGROUND) if self.reverse else (self.foreground or FOREGROUND)

    @property
    def paper(self) -> str:
        return (self.foreground or FOREGROUND) if self.reverse else (self.background or BACKGROUND)


PLAIN = Style()
_SWITCHES: dict[int, dict[str, bool]] = {
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underline": True},
    7: {"reverse": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underline": False},
    27: {"reverse": False},
}


def _indexed(number: int) -> str:
    """The colour of a number of 256 (xterm's)."""
    if number < 16:
        return _ANSI[number]
    if number < 232:
        number -= 16
        levels = (_CUBE[number // 36], _CUBE[number // 6 % 6], _CUBE[number % 6])
        return "#" + "".join(f"{level:02x}" for level in levels)
    return "#" + f"{8 + 10 * (number - 232):02x}" * 3


def _changed(style: Style, parameters: str) -> Style:
    """The style after a sequence of SGR parameters (ECMA-48, 8.3.117)."""
    numbers = iter([int(number or 0) for number in parameters.split(";")])
    for number in numbers:
        if number == 0:
            style = PLAIN
        elif number in _SWITCHES:
            style = Style(**{**asdict(style), **_SWITCHES[number]})
        elif 30 <= number <= 39 or 90 <= number <= 97:
            style = replace(style, foreground=_colour(number, numbers))
        elif 40 <= number <= 49 or 100 <= number <= 107:
            style = replace(style, background=_colour(number - 10, numbers))
        else:
            raise ValueError(f"no known rendition: {number}")
    return style


def _colour(number: int, more: Iterator[int]) -> str | None:
    """The colour of a foreground parameter and the ``more`` that follow it, None for the terminal's own."""
    if number == 39:
        return None
    if number != 38:
        return _ANSI[number - 30 if number < 90 else number - 82]
    if next(more) == 5:
        return _indexed(next(more))
    return "#" + "".join(f"{next(more):02x}" for _ in range(3))


def _cells(row: str, style: Style) -> tuple[list[tuple[str, Style]], Style]:
    """The cells of a row, and the style behind it."""
    cells: list[tuple[str, Style]] = []
    pieces = _SEQUENCE.split(row)
    for place, piece in enumerate(pieces):
        if place % 2:
            style = _changed(style, piece)
        else:
            cells += [(letter, style) for letter in piece]
    return cells, style


def uncoloured(screen: str) -> str:
    """A screen without its escape sequences, nor spaces at the ends of rows, nor empty rows at its end."""
    return "\n".join(row.rstrip() for row in _SEQUENCE.sub("", screen).split("\n")).rstrip("\n")


def picture(screen: str, columns: int) -> str:
    """A screen with escape sequences as an SVG document."""
    rows = screen.split("\n")[: uncoloured(screen).count("\n") + 1]
    width, height = columns * CELL_WIDTH + 2 * MARGIN, len(rows) * CELL_HEIGHT + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
        f' width="{width:g}" height="{height:g}">',
        f'<rect width="100%" height="100%" rx="6" fill="{BACKGROUND}"/>',
        f'<g font-family="{FONTS}" font-size="{FONT_SIZE}">',
    ]
    style = PLAIN
    for number, row in enumerate(rows):
        cells, style = _cells(row, style)
        lines += _drawn(cells, MARGIN + number * CELL_HEIGHT)
    return "\n".join([*lines, "</g>", "</svg>", ""])


def _drawn(cells: list[tuple[str, Style]], top: float) -> Iterator[str]:
    """One row: what lies behind its text, and the text."""
    spans = []
    column = 0
    for style, group in groupby(cells, key=lambda cell: cell[1]):
        text = "".join(letter for letter, _ in group)
        left, width = MARGIN + column * CELL_WIDTH, len(text) * CELL_WIDTH
        column += len(text)
        if style.paper != BACKGROUND:
            place = f'x="{left:g}" y="{top:g}" width="{width:g}" height="{CELL_HEIGHT}"'
            yield f'<rect {place} fill="{style.paper}"/>'
        text = escape(text).replace(" ", NO_BREAK)
        # each run has its place and length, so that columns meet in any font
        spans.append(f'<tspan x="{left:g}" textLength="{width:g}"{_looks(style)}>{text}</tspan>')
    yield f'<text y="{top + 13.5:g}">{"".join(spans)}</text>'


def _looks(style: Style) -> str:
    attributes = {
        "fill": style.ink,
        "font-weight": "bold" if style.bold else "",
        "font-style": "italic" if style.italic else "",
        "text-decoration": "underline" if style.underline else "",
        "fill-opacity": "0.6" if style.dim else "",
    }
    return "".join(f' {name}="{value}"' for name, value in attributes.items() if value)


def text_of(svg: str) -> str:
    """The text of a picture, row by row."""
    rows = ElementTree.fromstring(svg).iter(f"{_SVG}text")
    return "\n".join("".join(row.itertext()).replace(NO_BREAK, " ").rstrip() for row in rows)
