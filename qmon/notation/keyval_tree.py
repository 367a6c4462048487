"""QEMU's nested option strings: ``id=a,rules.0.match=fred`` (QEMU: util/keyval.c). Pure.

They differ from the flat strings of ``keyval.py``: dots in a key lead into dictionaries and lists, every key
needs its ``=``, and ``help`` or ``?`` in the place of an option asks for help.
"""

from __future__ import annotations

import re
from typing import Any

from qmon.errors import UsageError

Tree = dict[str, Any]
"""Values are strings, or dictionaries and lists of values."""

HELP_WORDS = ("help", "?")
FRAGMENT_MAX = 127
"""The most characters of a part of a key between dots."""

_INDEX_MAX = (1 << 31) - 1
_NAME = re.compile(r"(?:__[A-Za-z0-9.-]*_)?[A-Za-z][A-Za-z0-9_-]*")
_INDEX = re.compile(r"[0-9]+")


def parse_tree(text: str, implied_key: str | None = None) -> tuple[Tree, bool]:
    """Read an option string; return its values, and whether it asks for help.

    If the first part has no ``=``, it is the value of ``implied_key``, up to the first comma. In other values
    a doubled comma stands for a comma. A later value replaces an earlier one. Raises UsageError with QEMU's
    message.
    """
    tree: Tree = {}
    asks_help = False
    position = 0
    while position < len(text):
        end = _find(text, "=,", position)
        head = text[position:end]
        if head and text[end : end + 1] != "=":
            if head in HELP_WORDS:
                asks_help = True
                position = end + 1
                continue
            if implied_key is not None:
                tree[implied_key] = head
                implied_key = None
                position = end + 1
                continue
        implied_key = None
        branch, name = _walk_key(tree, text, position, end)
        if text[end : end + 1] != "=":
            raise UsageError(f"Expected '=' after parameter '{head}'")
        value, position = _read_value(text, end + 1)
        if isinstance(branch.get(name), dict):
            raise UsageError(f"Parameters '{head}.*' used inconsistently")
        branch[name] = value
    listed = _listify(tree, "")
    assert isinstance(listed, dict)  # a first fragment is never an index
    return listed, asks_help


def _find(text: str, characters: str, position: int) -> int:
    while position < len(text) and text[position] not in characters:
        position += 1
    return position


def _walk_key(tree: Tree, text: str, start: int, end: int) -> tuple[Tree, str]:
    """Return the dictionary that a key's value belongs to, created if missing, and the value's name in it."""
    position = start
    name = ""
    while True:
        match = _INDEX.match(text, position, end) if name else None
        match = match or _NAME.match(text, position, end)
        if match is None or (match.end() < end and text[match.end()] != "."):
            raise UsageError(f"Invalid parameter '{text[start:end]}'")
        if len(match[0]) > FRAGMENT_MAX:
            whole = match.span() == (start, end)
            raise UsageError(f"Parameter{'' if whole else ' fragment'} '{match[0]}' is too long")
        if name:
            branch = tree.setdefault(name, {})
            if not isinstance(branch, dict):
                raise UsageError(f"Parameters '{text[start : position - 1]}.*' used inconsistently")
            tree = branch
        name = match[0]
        if match.end() == end:
            return tree, name
        position = match.end() + 1


def _read_value(text: str, position: int) -> tuple[str, int]:
    """Return the value that begins at ``position``, and where the next key begins."""
    value = ""
    while True:
        comma = text.find(",", position)
        if comma < 0:
            return value + text[position:], len(text)
        value += text[position:comma]
        if text[comma + 1 : comma + 2] != ",":
            return value, comma + 1
        value += ","
        position = comma + 2


def _listify(tree: Tree, prefix: str) -> Tree | list[Any]:
    """Turn dictionaries whose keys are indices into lists; ``prefix`` is the key so far with its dot."""
    for key, value in tree.items():
        if isinstance(value, dict):
            tree[key] = _listify(value, f"{prefix}{key}.")
    indices = [min(int(key[:20]), _INDEX_MAX) for key in tree if key[0].isdigit()]
    if not indices:
        return tree
    if len(indices) < len(tree):
        raise UsageError(f"Parameters '{prefix}*' used inconsistently")
    by_index = dict(zip(indices, tree.values(), strict=True))
    for index in range(max(indices) + 1):
        if index not in by_index:
            raise UsageError(f"Parameter '{prefix}{index}' missing")
    return [by_index[index] for index in sorted(by_index)]
