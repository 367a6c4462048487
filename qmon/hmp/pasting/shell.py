"""Finds the monitor lines that a shell command sends: ``virsh qemu-monitor-command``, ``echo … | socat …``.

A shell command whose result depends on the shell (variables, substitutions, lists) sends nothing known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os.path import basename

_CLIENTS = frozenset(("socat", "nc", "ncat", "netcat", "telnet", "qm"))
"""Programs that send their standard input to a monitor."""
_VIRSH_COMMAND = "qemu-monitor-command"
_IS_MEANT = re.compile(rf"\b(?:{_VIRSH_COMMAND}|{'|'.join(sorted(_CLIENTS))})\b")
_PROGRAM = re.compile(r"[\w./~]")

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<output>[0-9&]?>{1,2}(?:&[0-9-]|\s*[^\s|;&<>()]+))
      | (?P<operator><<<|\|\||&&|<<|[|;&<>()])
      | (?P<comment>\#.*)
      | (?P<word>(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'"\\|;&<>()])+)
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_PART = re.compile(
    r"""'(?P<literal>[^']*)'|"(?P<quoted>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|(?P<bare>[^'"\\]+)"""
)
_EXPANDED = re.compile(r"(?<!\\)[$`]")
_ESCAPE = re.compile(r"\\([\\nrt])")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def monitor_lines(command: str) -> list[str] | None:
    """Return the lines that a shell command sends to a monitor; None if it is not known to send any.

    The last word may be a shell command itself, as in ``ssh HOST "COMMAND"`` and ``sh -c 'COMMAND'``.
    """
    if not _PROGRAM.match(command) or not _IS_MEANT.search(command):
        return None
    stages = _pipeline(command)
    if stages is None:
        return None
    sent = _by_virsh(stages[0])
    if sent is None:
        sent = _by_client(stages)
    if sent is not None:
        return sent.splitlines()
    inner = stages[0][-1] if stages[0] else ""
    return monitor_lines(inner) if inner != command else None


def _pipeline(command: str) -> list[list[str]] | None:
    """Return the words of each program of a pipeline; ``<<<`` is a word of its own."""
    stages: list[list[str]] = [[]]
    position = 0
    while (token := _TOKEN.match(command, position)) is not None:
        position = token.end()
        if token["end"] is not None or token["comment"] is not None:
            return stages
        if token["word"] is not None:
            word = _unquoted(token["word"])
            if word is None:
                return None
            stages[-1].append(word)
        elif token["operator"] == "|":
            stages.append([])
        elif token["operator"] == "<<<":
            stages[-1].append("<<<")
        elif token["operator"] is not None:
            return None
    return None


def _unquoted(word: str) -> str | None:
    """Return a word's text; None if the shell would expand something in it."""
    text = ""
    for part in _PART.finditer(word):
        if part["literal"] is not None:
            text += part["literal"]
        elif part["escaped"] is not None:
            text += part["escaped"]
        elif _EXPANDED.search(part["quoted"] or part["bare"] or ""):
            return None
        elif part["bare"] is not None:
            text += part["bare"]
        else:
            text += re.sub(r'\\([\\"$`])', r"\1", part["quoted"])
    return text


def _by_virsh(words: Sequence[str]) -> str | None:
    """Return the line in ``virsh qemu-monitor-command DOMAIN --hmp LINE``, in any of its spellings."""
    if _VIRSH_COMMAND not in words:
        return None
    place = words.index(_VIRSH_COMMAND)
    if place and "virsh" not in map(basename, words[:place]):
        return None
    rest = iter(words[place + 1 :])
    data: list[str] = []
    line: list[str] = []
    is_hmp = has_domain = only_data = False
    for word in rest:
        option, equals, value = word.partition("=")
        if only_data or not word.startswith("--"):
            data.append(word)
        elif word == "--":
            only_data = True
        elif word == "--hmp":
            is_hmp = True
        elif option == "--domain":
            has_domain = bool(value if equals else next(rest, ""))
        elif option == "--cmd":
            line.append(value if equals else next(rest, ""))
        elif word not in ("--pretty", "--return-value"):
            return None
    line += data if has_domain else data[1:]
    return " ".join(line) if is_hmp and line else None


def _by_client(stages: Sequence[Sequence[str]]) -> str | None:
    """Return what ``echo`` or ``printf``, or a string behind ``<<<``, sends to a program like socat."""
    *first, last = stages[:2]
    if _CLIENTS.isdisjoint(map(basename, last)):
        return None
    if not first:
        place = last.index("<<<") + 1 if "<<<" in last else 0
        return last[place] if 0 < place < len(last) else None
    words = [word for word in first[0] if word != "sudo"]
    if not words:
        return None
    write = _WRITERS.get(basename(words[0]))
    return write(words[1:]) if write is not None else None


def _echoed(words: Sequence[str]) -> str | None:
    options = ""
    while words and re.fullmatch("-[neE]+", words[0]):
        options, words = options + words[0], words[1:]
    text = " ".join(words)
    return _unescaped(text) if "e" in options else text


def _printed(words: Sequence[str]) -> str | None:
    form, *values = words or [""]
    if "%" not in form:
        return _unescaped(form)
    return "\n".join(values) if form in ("%s", "%s\\n") else None


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], text)


_WRITERS = {"echo": _echoed, "printf": _printed}
