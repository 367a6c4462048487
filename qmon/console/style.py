"""Colours for the names that the lexer and the layout use. Nothing is told by colour alone."""

from __future__ import annotations

from prompt_toolkit.styles import Style

STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "question": "bold",
        "pygments.keyword": "bold ansigreen",
        "pygments.name.attribute": "ansicyan",
        "pygments.literal.string": "ansiyellow",
        "pygments.literal.number": "ansimagenta",
        "pygments.comment": "italic ansibrightblack",
        "pygments.error": "underline ansired",
        "progress": "ansigreen",
        "hint": "ansibrightblack",
        "auto-suggestion": "ansibrightblack",
        "toolbar": "reverse",
        "toolbar.complaint": "bold",
        "completion-menu": "noreverse bg:ansibrightblack ansiwhite",
        "completion-menu.completion.current": "reverse",
        "completion-menu.meta.completion": "bg:ansibrightblack ansiwhite",
        "completion-menu.meta.completion.current": "reverse",
    }
)
