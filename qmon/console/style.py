"""Colours for the names that the lexer and the layout use. Nothing is told by colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prompt_toolkit.styles import Style


@dataclass(frozen=True, slots=True)
class Coloured:
    """A part of the screen: prompt_toolkit's classes of it, and its usual style."""

    classes: tuple[str, ...]
    usual: str


PARTS = {
    "prompt": Coloured(("prompt",), "bold"),
    "question": Coloured(("question",), "bold"),
    "command": Coloured(("pygments.keyword",), "bold ansigreen"),
    "flag": Coloured(("pygments.name.attribute",), "ansicyan"),
    "string": Coloured(("pygments.literal.string",), "ansiyellow"),
    "number": Coloured(("pygments.literal.number",), "ansimagenta"),
    "comment": Coloured(("pygments.comment",), "italic ansibrightblack"),
    "error": Coloured(("pygments.error",), "underline ansired"),
    "progress": Coloured(("progress",), "ansigreen"),
    "hint": Coloured(("hint",), "ansibrightblack"),
    "suggestion": Coloured(("auto-suggestion",), "ansibrightblack"),
    "toolbar": Coloured(("toolbar",), "reverse"),
    "complaint": Coloured(("toolbar.complaint",), "bold"),
    "menu": Coloured(
        ("completion-menu", "completion-menu.meta.completion"), "noreverse bg:ansibrightblack ansiwhite"
    ),
    "menu-selected": Coloured(
        ("completion-menu.completion.current", "completion-menu.meta.completion.current"), "reverse"
    ),
}
"""The parts by their names in the configuration file."""


def build_style(colours: Mapping[str, str]) -> Style:
    """Return the style with these parts changed. Raises ValueError for a text that is no style."""
    return Style.from_dict(
        {name: colours.get(part, row.usual) for part, row in PARTS.items() for name in row.classes}
    )
