"""Makes manual pages from the tables' documentation blocks: plain text, and reStructuredText for Sphinx.

A block is a definition list with one command: its syntax, and an indented description. A literal block with
lines that begin with the prompt is an example.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

from qmon.hmp.prompt import PROMPT
from qmon.hmp.tables import texinfo
from qmon.hmp.tables.table import Command, Table

WIDTH = 79
"""Columns of a page."""

_MARKUP = re.compile(
    r"``(.+?)``|\*\*(.+?)\*\*|\*(.+?)\*|:\w+:`(?:([^`<]*?) ?<[^`>]*>|([^`]*))`|\\(.)", re.DOTALL
)
_BULLET = re.compile(r"- |\d+\. ")


@dataclass(slots=True)
class Step:
    """A line of an example, and the lines of its answer; ``...`` stands for any text."""

    line: str
    answer: list[str] = field(default_factory=list)


def page(command: Command) -> str:
    """Return a command's page as plain text, without a final newline; "" if it has no documentation."""
    documentation = command.entry.documentation
    if texinfo.is_texinfo(documentation):
        return texinfo.plain_text(documentation)
    return plain_text(documentation)


def plain_text(rst: str) -> str:
    """Convert the tables' reStructuredText to plain text: remove markup, wrap paragraphs."""
    text = "\n".join(_rendered(textwrap.dedent(rst).strip("\n").split("\n"))).strip("\n")
    return re.sub(r"\n{3,}", "\n\n", text)


def _rendered(lines: list[str]) -> Iterator[str]:
    literal: int | None = None
    for indent, paragraph in _paragraphs(lines):
        if literal is not None and (indent > literal or not paragraph):
            yield from (" " * indent + line for line in paragraph)
            if not paragraph:
                yield ""
            continue
        literal = None
        if not paragraph:
            yield ""
            continue
        text = " ".join(paragraph)
        if text.endswith("::"):
            literal = indent
            text = text.removesuffix("::").rstrip()
            if not text:
                continue
            text += "" if text.endswith(":") else ":"
        bullet = _BULLET.match(text)
        yield from textwrap.wrap(
            _unmarked(text),
            WIDTH,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + (bullet.end() if bullet else 0)),
            break_on_hyphens=False,
            break_long_words=False,
        )


def _paragraphs(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield paragraphs: adjacent lines of equal indent, with the indent; an empty list for a blank line.

    A bullet's lines are one paragraph, although they are indented more than its first line. A deeper line in
    a literal block keeps its extra indent.
    """
    paragraph: list[str] = []
    indent = 0
    hanging = 0
    for line in lines:
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        bullet = _BULLET.match(text)
        goes_on = paragraph and depth == indent + hanging and not bullet
        if paragraph and not goes_on:
            yield indent, paragraph
            paragraph = []
        if not text:
            yield indent, []
            continue
        if not paragraph:
            indent = depth
            hanging = bullet.end() if bullet else 0
        paragraph.append(text)
    if paragraph:
        yield indent, paragraph


def _unmarked(text: str) -> str:
    def bare(match: re.Match[str]) -> str:
        literal, strong, emphasis, title, role, escaped = match.groups()
        if escaped is not None:
            return "" if escaped == " " else str(escaped)
        return next(str(found) for found in (literal, strong, emphasis, title, role) if found is not None)

    return _MARKUP.sub(bare, text)


def examples(documentation: str) -> list[list[Step]]:
    """Return the examples of a documentation block: each is a list of typed lines with their answers."""
    found: list[list[Step]] = []
    steps: list[Step] = []
    indent: int | None = None
    for line in documentation.split("\n"):
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        if indent is None and text.startswith(PROMPT.strip()):
            indent = depth
        if indent is None:
            continue
        if text and depth < indent:
            found.append(steps)
            steps, indent = [], None
        elif text.startswith(PROMPT.strip()):
            steps.append(Step(text.removeprefix(PROMPT.strip()).strip()))
        elif steps:
            steps[-1].answer.append(line[indent:].rstrip())
    if steps:
        found.append(steps)
    for example in found:
        for step in example:
            while step.answer and not step.answer[-1]:
                step.answer.pop()
    return found


def reference(table: Table, path: tuple[str, ...] = (), *, labels: bool = True) -> str:
    """Return all commands of a table as reStructuredText, in the table's order: a section for each heading.

    With ``labels`` each command has a label, ``command-NAME``; the names of the tables above it precede NAME.
    """
    lines: list[str] = []
    heading = ""
    for command in sorted(table, key=lambda command: command.entry.line):
        if not page(command):
            continue
        if command.entry.heading != heading:
            heading = command.entry.heading
            lines += ["", heading, "~" * len(heading), ""]
        if labels:
            lines += ["", f".. _{'-'.join(('command', *path, command.entry.names[0]))}:", ""]
        lines += [textwrap.dedent(command.entry.documentation).strip("\n"), ""]
    return "\n".join(lines)
