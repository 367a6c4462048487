"""Reads the schema of QMP: the expressions of ``spec/qmp`` in the QAPI schema language.

The language is QEMU's (docs/devel/qapi-code-gen), with one addition: an enumeration's ``x-qmon-lacks`` names
the values that QEMU has and this machine has not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from qmon.notation.visit import (
    Alternate,
    Anything,
    Choice,
    Form,
    Integer,
    Kind,
    ListOf,
    Null,
    Number,
    Path,
    Size,
    Struct,
    Switch,
    Text,
    Union,
    Unsigned,
)

Expression = Mapping[str, Any]
Type = Any
"""A type's name, or a list with the name of its members' type."""

LACKS = "x-qmon-lacks"
METAS = ("command", "event", "struct", "union", "enum", "alternate")

BUILTINS: Mapping[str, Kind] = {
    "str": Text(),
    "bool": Switch(),
    "number": Number(),
    "int": Integer(),
    "int8": Integer(8),
    "int16": Integer(16),
    "int32": Integer(32),
    "int64": Integer(),
    "uint8": Unsigned(8),
    "uint16": Unsigned(16),
    "uint32": Unsigned(32),
    "uint64": Unsigned(),
    "size": Size(),
    "null": Null(),
    "any": Anything(),
}

_PYTHON_TYPES: Mapping[type, type] = {Text: str, Switch: bool, Null: type(None), Number: float}
"""By class of a builtin kind: the type of its values; otherwise it is int."""

_COMMENTS = re.compile(r"^#.*\n", re.MULTILINE)
_BEGINNING = re.compile(r"^\{", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object, or an argument."""

    name: str
    type: Type
    is_optional: bool = False
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Named:
    """The kind of a type that is looked up when it is used: types may contain one another."""

    schema: Schema
    name: str

    def read(self, value: Any, form: Form, path: Path) -> Any:
        return self.schema.kind(self.name).read(value, form, path)


class Schema:
    """The expressions by name, and the kinds that are made of them."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """``texts`` are the contents of files by their names without ending."""
        self.texts = texts
        self.families: dict[str, list[str]] = {}
        """By name of a file: the names that it defines."""
        self._found: dict[str, Expression] = {}
        for family, text in texts.items():
            names = self.families[family] = []
            for expression in expressions(text):
                name = expression[meta_of(expression)]
                self._found[name] = expression
                names.append(name)
        self._kinds: dict[str, Kind] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def __getitem__(self, name: str) -> Expression:
        """The expression that defines a command, an event or a type. Raises KeyError."""
        return self._found[name]

    def names(self, meta: str) -> list[str]:
        """The names of all commands, or of everything else of one meta-type, in the order of the files."""
        return [name for name, expression in self._found.items() if meta in expression]

    def words(self, enum: str) -> tuple[str, ...]:
        """The values of an enumeration."""
        return tuple(member.name for member in values_of(self._found[enum]))

    def members(self, of: Type | Mapping[str, Any] | None) -> list[Member]:
        """The members of a struct, of a union's base, or of an expression's ``data``, its base's first."""
        if of is None:
            return []
        if isinstance(of, Mapping):
            return list(_members(of))
        expression = self._found[of]
        if "union" in expression:
            return self.members(expression["base"])
        return [*self.members(expression.get("base")), *_members(expression["data"])]

    def branches(self, union: str) -> dict[str, str | None]:
        """By value of a union's discriminator: the type with the further members, None if there are none."""
        expression = self._found[union]
        tag = next(each for each in self.members(union) if each.name == expression["discriminator"])
        return {word: _type(expression["data"].get(word)) for word in self.words(tag.type)}

    def arguments(self, name: str) -> Kind:
        """The kind of a command's arguments, or of an event's data. Raises KeyError."""
        data = self._found[name].get("data")
        return self.kind(data) if isinstance(data, str) else self._struct(self.members(data))

    def kind(self, type_: Type) -> Kind:
        """The kind of a type."""
        if isinstance(type_, list):
            return ListOf(self._member_kind(type_[0]))
        if type_ in BUILTINS:
            return BUILTINS[type_]
        if type_ not in self._kinds:
            self._kinds[type_] = self._make(type_)
        return self._kinds[type_]

    def _member_kind(self, type_: Type) -> Kind:
        if isinstance(type_, list) or type_ in BUILTINS or "enum" in self._found[type_]:
            return self.kind(type_)
        return _Named(self, type_)

    def _struct(self, members: list[Member]) -> Struct:
        return Struct(
            {each.name: self._member_kind(each.type) for each in members},
            frozenset(each.name for each in members if not each.is_optional),
        )

    def _make(self, name: str) -> Kind:
        expression = self._found[name]
        match meta_of(expression):
            case "enum":
                return Choice(self.words(name), frozenset(expression.get(LACKS, ())))
            case "alternate":
                types = [_type(each) for each in expression["data"].values()]
                return Alternate(name, {self._json_type(each): self.kind(each) for each in types})
            case "union":
                base = self.members(name)
                branches = {
                    word: self._struct([*base, *self.members(type_)])
                    for word, type_ in self.branches(name).items()
                }
                return Union(self._struct(base), expression["discriminator"], branches)
        return self._struct(self.members(name))

    def _json_type(self, type_: Type) -> type:
        """The type of a value as Python's JSON reader returns it."""
        if isinstance(type_, list):
            return list
        if type_ in BUILTINS:
            return _PYTHON_TYPES.get(type(BUILTINS[type_]), int)
        return str if "enum" in self._found[type_] else dict


def expressions(text: str) -> list[Expression]:
    """Read a file's expressions. Each begins with ``{`` in the first column.

    The C reader of JSON, because the program's start waits for this: no string has a quote in it.
    """
    body = _BEGINNING.sub(",{", _COMMENTS.sub("", text)).replace("'", '"')
    found: list[Expression] = json.loads(f"[{body.lstrip().removeprefix(',')}]")
    return found


def meta_of(expression: Expression) -> str:
    """What an expression defines: one of ``METAS``."""
    return next(meta for meta in METAS if meta in expression)


def values_of(enum: Expression) -> list[Member]:
    """The values of an enumeration, with their features."""
    rows = (each if isinstance(each, Mapping) else {"name": each} for each in enum["data"])
    return [Member(row["name"], "str", features=tuple(row.get("features", ()))) for row in rows]


def _type(written: Any) -> Any:
    return written["type"] if isinstance(written, Mapping) else written


def _members(data: Mapping[str, Any]) -> Iterator[Member]:
    for name, written in data.items():
        features = written.get("features", ()) if isinstance(written, Mapping) else ()
        yield Member(name.removeprefix("*"), _type(written), name.startswith("*"), tuple(features))


@lru_cache(maxsize=1)
def default_schema() -> Schema:
    """Return the program's own schema, which is read once, at the first call."""
    folder = resources.files("qmon") / "spec" / "qmp"
    files = sorted(each.name for each in folder.iterdir() if each.name.endswith(".json"))
    return Schema({name.removesuffix(".json"): (folder / name).read_text("utf-8") for name in files})
