"""Finds the commands that are about some words: by name, help sentence and manual entry."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qmon.hmp.tables.table import Command

Named = tuple[str, Command]
"""A command with what is typed for it: ``info block``."""

_WORD = re.compile(r"[a-z0-9]+")
_ENDINGS = ("ings", "ing", "ed", "es", "s", "e")
_STEM_MIN = 3
"""A shorter word is searched as a whole: too many words begin with it."""
_NOWHERE = 3
"""The place of a word that is in none of the three texts of a command."""


def search(commands: Iterable[Named], words: Iterable[str]) -> list[Named]:
    """Return the commands that are about most of the words, the best first; [] if none is about any."""
    patterns = [_pattern(part) for word in words for part in _WORD.findall(word.lower())]
    ranked = []
    for name, command in commands:
        texts = _texts(name, command)
        places = [_place(pattern, texts) for pattern in patterns]
        missing = places.count(_NOWHERE)
        if missing < len(patterns):
            ranked.append((missing, sum(places), name, command))
    ranked.sort(key=lambda each: each[:3])
    return [(name, command) for missing, _, name, command in ranked if missing == ranked[0][0]]


def _pattern(word: str) -> re.Pattern[str]:
    """Return what finds a word, or longer ones that begin with it, whatever their endings are."""
    stem, end = word, r"(?![a-z0-9])" if len(word) < _STEM_MIN else ""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_MIN:
            stem = word.removesuffix(ending)
            break
    return re.compile(rf"(?<![a-z0-9]){stem}{end}", re.IGNORECASE)


def _texts(name: str, command: Command) -> tuple[str, ...]:
    """Return the name with other words for it, the help sentence, and the manual entry without examples."""
    prose = [line for line in command.entry.documentation.split("\n") if not line.startswith("    ")]
    return " ".join([name, command.name, *command.other_words]), command.entry.help, "\n".join(prose)


def _place(pattern: re.Pattern[str], texts: tuple[str, ...]) -> int:
    return next((place for place, text in enumerate(texts) if pattern.search(text)), _NOWHERE)
