"""Converts Texinfo, the format of the documentation in QEMU's tables up to 4.x, to plain text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

WIDTH = 79
STEP = 2
"""Columns by which an item's description is indented."""

_COMMAND = re.compile(r"@([a-z]+)\s*(.*)")
_KNOWN = re.compile(r"(?m)^@(item|itemx|findex|table|example|var)\b")
_INNERMOST = re.compile(r"@([a-z]+)\{([^@{}]*)\}")
_SYMBOLS = {"dots": "...", "minus": "-", "bullet": "-"}
_LISTS = ("table", "itemize", "enumerate")
_VERBATIM = ("example", "smallexample")
_ESCAPED = {"@@": "\x01", "@{": "\x02", "@}": "\x03"}
"""Escaped characters, and placeholders for them while markup is replaced."""


def is_texinfo(documentation: str) -> bool:
    """Whether a block is Texinfo, not reStructuredText."""
    return _KNOWN.search(documentation) is not None


def plain_text(texinfo: str) -> str:
    """Convert an entry's block to plain text: remove markup and index entries, wrap paragraphs."""
    text = "\n".join(_rendered(texinfo.split("\n")))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def _rendered(lines: list[str]) -> Iterator[str]:
    depth = 0
    """How many lists are open inside the list of commands."""
    paragraph: list[str] = []
    verbatim = False
    bullet = ""

    def wrapped() -> Iterator[str]:
        indent = " " * STEP * (depth + 1)
        yield from textwrap.wrap(
            bullet + " ".join(paragraph),
            WIDTH,
            initial_indent=indent[len(bullet) :],
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        )
        paragraph.clear()

    for line in lines:
        command = _COMMAND.fullmatch(line.strip())
        name, rest = (command[1], command[2]) if command else ("", "")
        if verbatim:
            verbatim = not (name == "end" and rest in _VERBATIM)
            yield " " * STEP * (depth + 2) + _unmarked(line) if verbatim else ""
        elif command is None or line.strip().startswith(f"@{name}{{"):
            if line.strip():
                paragraph.append(_unmarked(line.strip()))
                continue
            yield from wrapped()
            yield ""
        else:
            yield from wrapped()
            bullet = ""
            if name in ("item", "itemx"):
                if rest:
                    yield " " * STEP * depth + _unmarked(rest)
                else:
                    bullet = "- "
            elif name in _LISTS:
                depth += 1
            elif name == "end" and rest in _LISTS:
                depth = max(0, depth - 1)
            elif name in _VERBATIM:
                verbatim = True
                yield ""
    yield from wrapped()


def _unmarked(text: str) -> str:
    for escaped, mark in _ESCAPED.items():
        text = text.replace(escaped, mark)
    while (found := _INNERMOST.search(text)) is not None:
        text = text[: found.start()] + _SYMBOLS.get(found[1], found[2]) + text[found.end() :]
    for escaped, mark in _ESCAPED.items():
        text = text.replace(mark, escaped[1])
    return text
