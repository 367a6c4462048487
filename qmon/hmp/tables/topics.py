"""Reads the tasks of ``help``: ``spec/help.rst``, whose first comment describes its form."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

from qmon.hmp.tables.hx import HxError

FILE = "help.rst"

_ALSO = re.compile(r"\.\. also: (.*)")
_NEEDS = re.compile(r"\.\. needs: (.*)")


@dataclass(frozen=True, slots=True)
class Row:
    """Lines that belong together, and what they do: ``info migrate``, ``wait``: show the progress; wait."""

    lines: tuple[str, ...]
    phrase: str
    in_overview: bool
    """Whether ``help`` shows it, not only ``help TASK``."""


@dataclass(slots=True)
class Topic:
    """A task."""

    name: str
    about: str = ""
    """What it is, in a sentence."""
    also: tuple[str, ...] = ()
    """Other words for it."""
    needs: str = ""
    """The QMP command without which it is not possible; it takes the place of one of the same name."""
    rows: list[Row] = field(default_factory=list)
    text: str = ""
    """How it is done: lines to type, as they are."""

    def names(self, command: str) -> bool:
        """Whether a line of it is a command: ``info block``."""
        return any(command in row.lines for row in self.rows)


def read_topics(text: str, file: str = FILE) -> list[Topic]:
    """Read a file of topics. Raises HxError naming the line that can't be read."""
    topics: list[Topic] = []
    for first, block in _blocks(text):
        also, needs = _ALSO.fullmatch(block[0]), _NEEDS.fullmatch(block[0])
        if len(block) == 2 and set(block[1]) == {"-"}:
            topics.append(Topic(block[0]))
        elif block[0].startswith("..") and not (also or needs):
            continue
        elif not topics:
            raise HxError(file, first, "expected a title, a line of '-' below it")
        elif also:
            topics[-1].also = tuple(also[1].split(", "))
        elif needs:
            topics[-1].needs = needs[1]
        elif block[0] == "::":
            topics[-1].text = textwrap.dedent("\n".join(block[1:])).strip("\n")
        elif len(block) == 1:
            topics[-1].about = block[0]
        elif all(line.startswith("  ") for line in block[1:]):
            phrase = " ".join(line.strip() for line in block[1:])
            topics[-1].rows.append(Row(tuple(block[0].split(", ")), phrase, not topics[-1].text))
        else:
            raise HxError(file, first, f"expected a sentence or lines with what they do, found '{block[0]}'")
    return topics


def _blocks(text: str) -> list[tuple[int, list[str]]]:
    """Return the blocks between blank lines, each with its first line's number; ``::`` takes what follows."""
    blocks: list[tuple[int, list[str]]] = []
    open_ = False
    for number, line in enumerate(text.split("\n"), 1):
        literal = bool(blocks) and blocks[-1][1][0] == "::" and (not line or line.startswith(" "))
        if literal or (line and open_):
            blocks[-1][1].append(line)
        elif line:
            blocks.append((number, [line]))
        open_ = bool(line)
    return blocks


def find_topic(topics: list[Topic], words: list[str]) -> Topic | None:
    """Return the topic that most of the words name, None if no word names any."""
    named = [topic.name for word in words for topic in topics if word in (topic.name, *topic.also)]
    return max(
        (topic for topic in topics if topic.name in named),
        key=lambda topic: (named.count(topic.name), -named.index(topic.name)),
        default=None,
    )


@lru_cache(maxsize=1)
def default_topics() -> list[Topic]:
    """Return the program's topics, which are read once, at the first call. Raises HxError."""
    return read_topics((resources.files("qmon") / "spec" / FILE).read_text(encoding="utf-8"))
