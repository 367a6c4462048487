"""Reads the comments of the schema's files: what each command, event and type is for."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BLOCK = re.compile(r"^##\n(?P<lines>(?:#.*\n)+?)##\n", re.MULTILINE)
_ABOUT = re.compile(r"@(?P<name>[\w.-]+): (?P<text>.*)")
_TITLE = re.compile(r"# (?P<title>.*)\n")

Told = Mapping[str, str]
"""About a definition: the sentence about it, under ``""``, and those about its members."""


def title(text: str) -> str:
    """Return the title of a file, its first line."""
    match = _TITLE.match(text)
    return "" if match is None else match["title"]


def documentation(text: str) -> dict[str, Told]:
    """Return what the comments of a file tell, by name of what is defined."""
    return dict(_told(block["lines"]) for block in _BLOCK.finditer(text))


def _told(lines: str) -> tuple[str, Told]:
    """Read a block: ``@name: text`` about a definition, then about its members. Texts may go on in lines."""
    about: dict[str, str] = {}
    name = key = ""
    for line in (line.removeprefix("#").strip() for line in lines.splitlines()):
        match = _ABOUT.match(line)
        if match:
            key = match["name"] if name else ""
            name = name or match["name"]
            about[key] = match["text"]
        elif line:
            about[key] += f" {line}"
    return name, about
