"""Reads the text of a ``-readconfig`` file: sections of options, as QEMU writes them. Pure.

::

    # a comment
    [drive "d0"]
      file = "disk.img"
      format = "raw"
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from qmon.errors import UsageError

_HEAD = re.compile(r'\[\s*(?P<group>[^\s"\]]+)(?:\s+"(?P<id>[^"]*)")?\s*\]')
_PAIR = re.compile(r'(?P<key>[^\s="]+)\s*=\s*"(?P<value>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Section:
    """One section: the ``line`` of its head, the ``group`` of options, and its keys in their order."""

    line: int
    group: str
    id: str | None
    pairs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The section's first line."""
        return f"[{self.group}]" if self.id is None else f'[{self.group} "{self.id}"]'

    @property
    def argument(self) -> str:
        """The same options as the argument of a command-line option."""
        pairs = self.pairs if self.id is None else [*self.pairs, ("id", self.id)]
        return ",".join(f"{key}={escape(value)}" for key, value in pairs)


class ConfigFileError(UsageError):
    """A line is neither a section, nor a key with its value, nor a comment."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def escape(value: str) -> str:
    """Return a value as it is written in an option string: a comma is doubled."""
    return value.replace(",", ",,")


def read_sections(lines: Iterable[str]) -> list[Section]:
    """Read the lines of a file. Raises ConfigFileError."""
    sections: list[Section] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if head := _HEAD.fullmatch(text):
            sections.append(Section(number, head["group"], head["id"]))
        elif text.startswith("["):
            raise ConfigFileError(number, f'{text} is not a section: write [GROUP] or [GROUP "ID"]')
        elif not sections:
            raise ConfigFileError(number, "no group defined: write [GROUP] before the first key")
        elif pair := _PAIR.fullmatch(text):
            sections[-1].pairs.append((pair["key"], pair["value"]))
        else:
            raise ConfigFileError(number, f'{text} is not an option: write KEY = "VALUE"')
    return sections
