"""Tells sentences from lines that may be meant as commands."""

from __future__ import annotations

import re

from qmon.hmp.line.words import comment_start

_ATTEMPT = re.compile(r"[a-z_][\w./-]*(?:\s.*)?")
_WORD = re.compile(r"[(\"']?[^\W\d_]+(?:['\u2019-][^\W\d_]+)*[)\"'.,:;!?]*")
_WORDS_MIN = 3
_SENTENCE_ENDS = tuple(".,:;!?\u2026")


def is_prose(line: str) -> bool:
    """Whether a line looks like a sentence: it ends like one, or most of its words are of letters only.

    Some commands look so, too.
    """
    line = line[: comment_start(line)].rstrip()
    words = line.split()
    spoken = sum(_WORD.fullmatch(word) is not None for word in words)
    return line.endswith(_SENTENCE_ENDS) or (spoken >= _WORDS_MIN and 2 * spoken > len(words))


def is_attempt(line: str) -> bool:
    """Whether a line that names no command may be meant as one, with a mistake in the name."""
    return _ATTEMPT.fullmatch(line.strip()) is not None and not is_prose(line)
