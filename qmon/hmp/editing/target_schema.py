"""Reads a QEMU's ``query-qmp-schema``: the kinds that a command makes, their options, an option's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from qmon.qmp.target import Target, ask

Row = Mapping[str, Any]
"""QAPI's SchemaInfo."""

_KNOWN: WeakKeyDictionary[Target, TargetSchema] = WeakKeyDictionary()


class TargetSchema:
    """The schema of one target, of which QEMU's has 200 KB."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {str(row["name"]): row for row in rows}

    def kinds(self, command: str) -> dict[str, Row]:
        """Return what the argument that selects a variant may be: for ``object-add`` the types of objects."""
        variants = self._arguments(command).get("variants", ())
        return {str(each["case"]): self._rows.get(str(each["type"]), {}) for each in variants}

    def options(self, command: str, kind: str) -> list[tuple[str, str]]:
        """Return the names of the options of a kind, and what each may be."""
        members = self.kinds(command).get(kind, {}).get("members", ())
        return [(str(each["name"]), self._shown(str(each["type"]))) for each in members]

    def words(self, command: str, option: str) -> list[str]:
        """Return the words that an option of a command may be, [] if it is no such option."""
        for each in self._arguments(command).get("members", ()):
            if each["name"] == option:
                return self._words(str(each["type"]))
        return []

    def _arguments(self, command: str) -> Row:
        return self._rows.get(str(self._rows.get(command, {}).get("arg-type")), {})

    def _words(self, name: str) -> list[str]:
        row = self._rows.get(name, {})
        if name == "bool":
            return ["off", "on"]
        return [str(each) for each in row.get("values", ())] if row.get("meta-type") == "enum" else []

    def _shown(self, name: str) -> str:
        if words := self._words(name):
            return "|".join(words)
        return {"str": "text", "int": "number", "size": "size"}.get(name, "")


async def schema_of(target: Target) -> TargetSchema:
    """Return a target's schema, for which it is asked once. Raises CommandError."""
    known = _KNOWN.get(target)
    if known is None:
        _KNOWN[target] = known = TargetSchema(await ask(target, "query-qmp-schema", []))
    return known
