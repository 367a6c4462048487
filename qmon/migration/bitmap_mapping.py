"""The names under which dirty bitmaps are to travel (QAPI: BitmapMigrationNodeAlias). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from qmon.errors import CommandError

MAX_NAME_BYTES = 1023
MAX_ALIAS_BYTES = 255
"""What the stream's length byte can say."""

_WELL_FORMED = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


def check_mapping(nodes: Iterable[Mapping[str, Any]]) -> None:
    """Check names and aliases of nodes and bitmaps. Raises CommandError in QEMU's words."""
    names: set[str] = set()
    aliases: set[str] = set()
    for node in nodes:
        name, alias = node["node-name"], node["alias"]
        if not _WELL_FORMED.fullmatch(alias):
            raise _bad(f"The node alias '{alias}' is not well-formed")
        _check_length("node alias", alias, MAX_ALIAS_BYTES)
        if name in names:
            raise _bad(f"The node name '{name}' is mapped twice")
        if alias in aliases:
            raise _bad(f"The node alias '{alias}' is used twice")
        names.add(name)
        aliases.add(alias)
        _check_bitmaps(name, alias, node["bitmaps"])


def _check_bitmaps(node: str, node_alias: str, bitmaps: Iterable[Mapping[str, Any]]) -> None:
    names: set[str] = set()
    aliases: set[str] = set()
    for bitmap in bitmaps:
        name, alias = bitmap["name"], bitmap["alias"]
        _check_length("bitmap name", name, MAX_NAME_BYTES)
        _check_length("bitmap alias", alias, MAX_ALIAS_BYTES)
        if name in names:
            raise _bad(f"The bitmap '{node}'/'{name}' is mapped twice")
        if alias in aliases:
            raise _bad(f"The bitmap alias '{node_alias}'/'{alias}' is used twice")
        names.add(name)
        aliases.add(alias)


def _check_length(what: str, text: str, most: int) -> None:
    if len(text.encode(errors="surrogatepass")) > most:
        raise _bad(f"The {what} '{text}' is longer than {most} bytes")


def _bad(why: str) -> CommandError:
    return CommandError(f"Invalid mapping given for block-bitmap-mapping: {why}")
