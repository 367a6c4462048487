"""The result of ``query-qmp-schema``: the schema as QEMU shows it (QAPI: introspect.json). Pure.

As in QEMU, types have numbers for names, and whatever is an integer is an ``int``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qmon.notation.qapi import BUILTINS, Expression, Member, Schema, Type, meta_of, values_of
from qmon.notation.visit import Anything, Integer, Null, Number, Size, Switch, Text, Unsigned

_NOTHING = "0"
"""The name of the object without members."""

_JSON_TYPES: Mapping[type, tuple[str, str]] = {
    Text: ("str", "string"),
    Switch: ("bool", "boolean"),
    Number: ("number", "number"),
    Integer: ("int", "int"),
    Unsigned: ("int", "int"),
    Size: ("int", "int"),
    Null: ("null", "null"),
    Anything: ("any", "value"),
}
"""By class of a builtin kind: its name, and its ``json-type``."""


def event_names(schema: Schema) -> list[str]:
    """Return the names of all events."""
    return sorted(schema.names("event"))


def introspect(schema: Schema) -> Iterator[dict[str, Any]]:
    """Yield each SchemaInfo: the commands and events, then the types that they use."""
    return _Introspection(schema).run()


class _Introspection:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._numbers: dict[str, str] = {"": _NOTHING}
        """By key of a type that was used: its name in the result."""
        self._count = 0
        self._waiting: list[tuple[str, Type]] = [(_NOTHING, {})]

    def run(self) -> Iterator[dict[str, Any]]:
        schema = self._schema
        for name in schema.names("command"):
            yield self._command(schema[name])
        for name in schema.names("event"):
            yield self._event(schema[name])
        for name, type_ in self._waiting:  # the list grows
            yield self._type(name, type_)

    def _command(self, expression: Expression) -> dict[str, Any]:
        info = {
            "name": expression["command"],
            "ret-type": self._use(expression.get("returns", {})),
            "meta-type": "command",
            "arg-type": self._use(expression.get("data", {})),
        }
        return {
            **info,
            **({"allow-oob": True} if expression.get("allow-oob") else {}),
            **_features(expression.get("features", ())),
        }

    def _event(self, expression: Expression) -> dict[str, Any]:
        info = {"name": expression["event"], "meta-type": "event"}
        return {
            **info,
            "arg-type": self._use(expression.get("data", {})),
            **_features(expression.get("features", ())),
        }

    def _use(self, type_: Type) -> str:
        """Return the name of a type, and see to it that the type is in the result."""
        if isinstance(type_, list):
            return self._named(name := f"[{self._use(type_[0])}]", name, type_)
        if isinstance(type_, Mapping):
            return self._number(repr(type_), type_) if type_ else _NOTHING
        if type_ in BUILTINS:
            return self._named(name := _JSON_TYPES[type(BUILTINS[type_])][0], name, type_)
        return self._number(type_, type_)

    def _number(self, key: str, type_: Type) -> str:
        if key not in self._numbers:
            self._count += 1
        return self._named(key, str(self._count), type_)

    def _named(self, key: str, name: str, type_: Type) -> str:
        if key not in self._numbers:
            self._numbers[key] = name
            self._waiting.append((name, type_))
        return self._numbers[key]

    def _type(self, name: str, type_: Type) -> dict[str, Any]:
        if isinstance(type_, list):
            return {"name": name, "element-type": self._use(type_[0]), "meta-type": "array"}
        if isinstance(type_, Mapping):
            return {"name": name, "members": self._members(type_), "meta-type": "object"}
        if type_ in BUILTINS:
            json_type = _JSON_TYPES[type(BUILTINS[type_])][1]
            return {"name": name, "json-type": json_type, "meta-type": "builtin"}
        expression = self._schema[type_]
        return {"name": name, **self._defined(type_, expression), **_features(expression.get("features", ()))}

    def _defined(self, type_: str, expression: Expression) -> dict[str, Any]:
        match meta_of(expression):
            case "enum":
                values = values_of(expression)
                members = [{"name": each.name, **_features(each.features)} for each in values]
                return {"members": members, "meta-type": "enum", "values": [each.name for each in values]}
            case "alternate":
                choices = self._schema.members(expression["data"])
                return {
                    "members": [{"type": self._use(each.type)} for each in choices],
                    "meta-type": "alternate",
                }
        info = {"members": self._members(type_), "meta-type": "object"}
        if "union" not in expression:
            return info
        branches = self._schema.branches(type_).items()
        variants = [{"case": word, "type": self._use(branch or {})} for word, branch in branches]
        return {**info, "tag": expression["discriminator"], "variants": variants}

    def _members(self, of: Type) -> list[dict[str, Any]]:
        return [self._member(each) for each in self._schema.members(of)]

    def _member(self, member: Member) -> dict[str, Any]:
        return {
            "name": member.name,
            **({"default": None} if member.is_optional else {}),
            "type": self._use(member.type),
            **_features(member.features),
        }


def _features(names: tuple[str, ...] | list[str]) -> dict[str, list[str]]:
    return {"features": list(names)} if names else {}
