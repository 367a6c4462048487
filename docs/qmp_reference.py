"""Writes the QMP reference from the schema: what ``qmon-qmp::`` of ``tables.py`` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from qmon.migration.capabilities import CAPABILITIES
from qmon.migration.parameters import PARAMETERS
from qmon.notation.qapi import BUILTINS, Expression, Member, Schema, Type, meta_of, values_of
from qmon.notation.qapi_comments import Told, documentation, title


def qmp_reference(schema: Schema) -> str:
    """Return the reference as reStructuredText: by file, the commands, the events and the types."""
    lines: list[str] = []
    for family, names in schema.families.items():
        text = schema.texts[family]
        told = documentation(text)
        heading = title(text)
        lines += [heading, "~" * len(heading), ""]
        for name in names:
            lines += _Entry(schema, name, {**_MEANINGS.get(name, {}), **told.get(name, {})}).lines()
    return "\n".join(lines)


_MEANINGS: Mapping[str, Told] = {
    "MigrateSetParameters": {row.name: row.meaning for row in PARAMETERS},
    "MigrationParameters": {row.name: row.meaning for row in PARAMETERS},
    "MigrationCapability": {row.name: row.meaning for row in CAPABILITIES},
}
"""By name of a definition: what a table of the program tells about its members."""


class _Entry:
    """One definition."""

    def __init__(self, schema: Schema, name: str, told: Told) -> None:
        self._schema = schema
        self._name = name
        self._expression: Expression = schema[name]
        self._told = told

    def lines(self) -> Iterator[str]:
        name, kind = self._name, meta_of(self._expression)
        yield f".. index:: single: {name} (QMP {kind})"
        yield ""
        if kind not in ("command", "event"):
            yield f".. _qmp-{_label(name)}:"
            yield ""
        yield f"``{name}`` ({', '.join([kind, *self._expression.get('features', ())])})"
        for line in [self._told.get("", ""), "", *self._body(kind), ""]:
            yield f"  {line}".rstrip()

    def _body(self, kind: str) -> Iterator[str]:
        expression = self._expression
        match kind:
            case "command" | "event":
                yield from self._data(expression.get("data", {}))
                if "returns" in expression:
                    yield from ("", f"Returns {self._type(expression['returns'])}.")
            case "enum":
                yield from self._rows((f"``{each.name}``", each) for each in values_of(expression))
            case "alternate":
                types = [self._type(each.type) for each in self._schema.members(expression["data"])]
                yield f"One of {', '.join(types)}."
            case "union":
                yield from self._members(self._schema.members(self._name))
                tag = expression["discriminator"]
                for word, branch in self._schema.branches(self._name).items():
                    if branch is not None:
                        yield f"* with ``{tag}`` ``{word}``: the members of {self._type(branch)}"
            case _:
                yield from self._members(self._schema.members(self._name))

    def _data(self, data: Type) -> Iterator[str]:
        if isinstance(data, str):
            yield f"The members of {self._type(data)}."
        else:
            yield from self._members(self._schema.members(data))

    def _members(self, members: Iterable[Member]) -> Iterator[str]:
        return self._rows((self._head(each), each) for each in members)

    def _head(self, member: Member) -> str:
        name = f"``{member.name}``" if not member.is_optional else f"[``{member.name}``]"
        return f"{name} {self._type(member.type)}"

    def _rows(self, rows: Iterable[tuple[str, Member]]) -> Iterator[str]:
        for head, member in rows:
            marked = f"{head} ({', '.join(member.features)})" if member.features else head
            told = self._told.get(member.name)
            yield f"* {marked}: {told}" if told else f"* {marked}"

    def _type(self, type_: Type) -> str:
        if isinstance(type_, list):
            return f"array of {self._type(type_[0])}"
        return type_ if type_ in BUILTINS else f":ref:`{type_} <qmp-{_label(type_)}>`"


def _label(name: str) -> str:
    return name.lower()
