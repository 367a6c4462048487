"""Checks the names under which dirty bitmaps are migrated (QAPI: BitmapMigrationNodeAlias). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from qmon.errors import CommandError

MAX_NAME_BYTES = 1023
MAX_ALIAS_BYTES = 255
"""The stream has one byte for the length."""

_WELL_FORMED = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


Nodes = Iterable[Mapping[str, Any]]


def check_mapping(nodes: Nodes) -> None:
    """Check names and aliases of nodes and bitmaps. Raises CommandError with QEMU's message."""
    nodes = list(nodes)
    _check_names(nodes)
    _check_aliases(nodes)


def _check_names(nodes: Nodes) -> None:
    seen: set[str] = set()
    for node in nodes:
        name, alias = node["node-name"], node["alias"]
        if not _WELL_FORMED.fullmatch(alias):
            raise _bad(f"The node alias '{alias}' is not well-formed")
        _check_length("node alias", alias, MAX_ALIAS_BYTES)
        if name in seen:
            raise _bad(f"The node name '{name}' is mapped twice")
        seen.add(name)
        bitmaps: set[str] = set()
        for bitmap in node["bitmaps"]:
            _check_length("bitmap alias", bitmap["alias"], MAX_ALIAS_BYTES)
            _check_length("bitmap name", bitmap["name"], MAX_NAME_BYTES)
            if bitmap["name"] in bitmaps:
                raise _bad(f"The bitmap '{name}'/'{bitmap['name']}' is mapped twice")
            bitmaps.add(bitmap["name"])


def _check_aliases(nodes: Nodes) -> None:
    seen: set[str] = set()
    for node in nodes:
        alias = node["alias"]
        if alias in seen:
            raise _bad(f"The node alias '{alias}' is used twice")
        seen.add(alias)
        bitmaps: set[str] = set()
        for bitmap in node["bitmaps"]:
            if bitmap["alias"] in bitmaps:
                raise _bad(f"The bitmap alias '{alias}'/'{bitmap['alias']}' is used twice")
            bitmaps.add(bitmap["alias"])


def _check_length(what: str, text: str, most: int) -> None:
    if len(text.encode(errors="surrogatepass")) > most:
        raise _bad(f"The {what} '{text}' is longer than {most} bytes")


def _bad(why: str) -> CommandError:
    return CommandError(f"Invalid mapping given for block-bitmap-mapping: {why}")
