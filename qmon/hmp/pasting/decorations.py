"""What surrounds commands in mails, wikis, chats and shell sessions: each kind is a row of one table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from qmon.hmp.pasting.shell import monitor_lines
from qmon.hmp.pasting.typography import (
    DASHES,
    DOUBLE_QUOTES,
    NO_WIDTH,
    SINGLE_QUOTES,
    in_plain_characters,
    without_entities,
)

Unwrap = Callable[[str], list[str] | None]
"""Takes a line; returns the lines in the decoration, none if it holds nothing, None if it is not there."""


@dataclass(frozen=True, slots=True)
class Decoration:
    """One kind of text around commands."""

    name: str
    unwrap: Unwrap
    is_prompt: bool = False
    """Whether it is a monitor's prompt: what follows was typed there, even if it is no known command."""
    is_proof: bool = False
    """Whether the lines in it went to a monitor. If so, the other lines of the text are no commands."""


def _around(*patterns: str) -> Unwrap:
    """Unwrap a whole line by the first pattern that matches it. The pattern's group is the line inside."""
    compiled = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]

    def unwrap(line: str) -> list[str] | None:
        for pattern in compiled:
            if found := pattern.fullmatch(line):
                return [*found.groups()]
        return None

    return unwrap


def _mended(mend: Callable[[str], str]) -> Unwrap:
    """Unwrap by changing the line."""

    def unwrap(line: str) -> list[str] | None:
        better = mend(line)
        return [better] if better != line else None

    return unwrap


_NO_WIDTH_AT_ENDS = re.compile(rf"\A[{NO_WIDTH}]++|(?<![{NO_WIDTH}])[{NO_WIDTH}]++\Z")
_DATE = r"\d{4}-\d\d-\d\d[ T]"
_TIME = r"\d\d?:\d\d(?::\d\d)?(?:[.,]\d+)?(?: ?[ap]m)?(?:Z|[+-]\d\d:?\d\d)?"
_BULLET = rf"[-*+\u2022\u2023\u2043\u25aa\u25cf\u25e6\u00b7{DASHES}]"
_STOP = "[.,;:]?"

_MONITOR = r"\(qemu(?: [\w.:@/+-]+)?\)"
"""The prompt of a monitor, or of a console on a machine with a name."""

DECORATIONS = (
    Decoration("white space", _mended(lambda line: _NO_WIDTH_AT_ENDS.sub("", line.strip()))),
    Decoration(
        "monitor prompt",
        _around(rf"(?-i:{_MONITOR}|qm>)\s*(.*)"),
        is_prompt=True,
        is_proof=True,
    ),
    Decoration(
        "fence",
        _around(
            r"(?:`{3,}|~{3,}) ?[\w+-]*",
            r"\{(?:code|noformat)[^}]*\}",
            r"\[/?code\]",
            r"</?(?:pre|code|blockquote|p|div)\b[^>]*>",
        ),
    ),
    Decoration("table row", _around(r"\|(.*)\|")),
    Decoration("quotation", _around(r"(?:[>|\u00bb\u2502]\s*)++(.*)")),
    Decoration(
        "inline code",
        _around(
            rf"`{{1,3}}([^`]+)`{{1,3}}{_STOP}",
            r"\{\{(.+)\}\}",
            r"\*{1,2}([^*]+)\*{1,2}",
            r"<(?:code|tt|kbd|pre|p|li|b|strong)\b[^>]*>(.*)</\w+>(?:<br ?/?>)?",
            r"(.*)<br ?/?>",
        ),
    ),
    Decoration(
        "quotes",
        _around(
            rf'"([^"]+)"{_STOP}',
            rf"'([^']+)'{_STOP}",
            rf"[{DOUBLE_QUOTES}]([^{DOUBLE_QUOTES}]+)[{DOUBLE_QUOTES}]{_STOP}",
            rf"[{SINGLE_QUOTES}]([^{SINGLE_QUOTES}]+)[{SINGLE_QUOTES}]{_STOP}",
        ),
    ),
    Decoration(
        "time and speaker",
        _around(
            rf"[\[(]?(?:{_DATE})?{_TIME}[\])]?\s+(?:[\w.-]{{1,32}}:\s)?(.*)", r"<[@+~&%]?[\w.-]{1,32}>\s+(.*)"
        ),
    ),
    Decoration(
        "bullet", _around(rf"{_BULLET}\s+(.*)", r"\[[ x]\]\s+(.*)", r"(?:[-=]>|\u2192|\u25b6)\s+(.*)")
    ),
    Decoration("step", _around(rf"(?:step|command)\s*\d+\s*[.:){DASHES}-]?\s*(.*)")),
    Decoration(
        "number",
        _around(
            r"[(\[]?\d{1,5}[.:)\]](?!\d)\s*(.*)",
            r"\d{1,3}(?:\.\d{1,3}){1,5}[.:)]?\s+(.*)",
            r"[a-z][.)]\s+(.*)",
            r"\d{1,5}\s+(.*)",
        ),
    ),
    Decoration(
        "shell prompt",
        _around(
            r"[$%\u276f\u279c]\s+(.*)",
            r"\[?[\w.-]+@[\w.-]+(?:[ :][^\s\]$#%>]*)?\]?\s?[$#%>]\s*(.*)",
            r"[\w.-]+(?::[^\s#$]*)?[#$]\s+(.*)",
            rf"(?:virsh\s*[#>]|qemu>|hmp>|monitor>|{_MONITOR})\s*(.*)",
        ),
    ),
    Decoration("shell command", monitor_lines, is_proof=True),
    Decoration("entities", _mended(without_entities)),
    Decoration("typography", _mended(in_plain_characters)),
)
"""In the order in which they are tried on a line that does not begin with a command's name."""
