"""Reads option strings into a QMP command's arguments by a target's own schema (QAPI: introspect.json). Pure.

An option string holds text only. The schema, which ``query-qmp-schema`` returns, says which values are
numbers, switches, nodes or lists, for every driver and object type that the target has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qmon.errors import UsageError
from qmon.notation.keyval import FALSE_WORDS, TRUE_WORDS, parse_size_option, parse_switch

Entity = Mapping[str, Any]
"""One SchemaInfo."""


class Introspection:
    """A target's schema."""

    def __init__(self, schema: Iterable[Entity]) -> None:
        self._entities = {entity["name"]: entity for entity in schema}

    def read(self, command: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return a command's arguments. ``options``: strings, and dictionaries and lists of values.

        Raises UsageError.
        """
        arguments: dict[str, Any] = self._object(self._arguments(command), options, "")
        return arguments

    def cases(self, command: str) -> dict[str, str]:
        """Return the variants of a command's arguments: the values of its tag, and their types' names."""
        return {each["case"]: each["type"] for each in self._arguments(command).get("variants", ())}

    def members(self, type_name: str) -> dict[str, str]:
        """Return the members of a type, and what each may be: ``bool``, ``str``, ``a|b``."""
        members = self._entities.get(type_name, {}).get("members", ())
        return {each["name"]: self._shown(each["type"]) for each in members}

    def _arguments(self, command: str) -> Entity:
        return self._entities[self._entities[command]["arg-type"]]

    def _shown(self, type_name: str) -> str:
        entity = self._entities[type_name]
        match entity["meta-type"]:
            case "builtin":
                return type_name
            case "enum":
                return "|".join(_values(entity))
        return str(entity["meta-type"])

    def _read(self, type_name: str, value: Any, path: str) -> Any:
        entity = self._entities[type_name]
        match entity["meta-type"]:
            case "builtin":
                return _scalar(entity["json-type"], value, path)
            case "enum":
                if value not in _values(entity):
                    raise UsageError(f"Parameter '{path}' does not accept value '{value}'")
                return value
            case "array":
                values = value if isinstance(value, list) else [value]
                return [
                    self._read(entity["element-type"], each, f"{path}.{number}")
                    for number, each in enumerate(values)
                ]
            case "alternate":
                return self._alternate(entity, value, path)
        return self._object(entity, value, path)

    def _object(self, entity: Entity, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise UsageError(f"Parameter '{path}' has options of its own: write {path}.OPTION={value}")
        members: dict[str, Entity] = {}
        level: Entity | None = entity
        while level is not None:
            members |= {each["name"]: each for each in level["members"]}
            level = self._variant(level, members, value, path)
        for name, member in members.items():
            if name not in value and "default" not in member:
                raise UsageError(f"Parameter '{_join(path, name)}' is missing")
        for name in value:
            if name not in members:
                raise UsageError(f"Parameter '{_join(path, name)}' is unexpected")
        return {
            name: self._read(members[name]["type"], each, _join(path, name)) for name, each in value.items()
        }

    def _variant(
        self, entity: Entity, members: Mapping[str, Entity], value: Mapping[str, Any], path: str
    ) -> Entity | None:
        """Return the type that a union's tag chooses, None for no union or an empty type."""
        tag = entity.get("tag")
        if tag is None or tag not in value:
            return None
        chosen = self._read(members[tag]["type"], value[tag], _join(path, tag))
        found = next((each["type"] for each in entity["variants"] if each["case"] == chosen), None)
        return None if found is None else self._entities[found]

    def _alternate(self, entity: Entity, value: Any, path: str) -> Any:
        """Return the value as the first type of several that may hold it."""
        types = [self._entities[each["type"]] for each in entity["members"]]
        if isinstance(value, Mapping | list):
            wanted = "object" if isinstance(value, Mapping) else "array"
            found = next((each for each in types if each["meta-type"] == wanted), None)
            if found is None:
                raise UsageError(f"Parameters '{path}.*' are unexpected")
            return self._read(found["name"], value, path)
        json_types = {each.get("json-type") for each in types}
        if value == "" and "null" in json_types:
            return None
        for each in types:
            if each["meta-type"] == "enum" and value in _values(each):
                return value
        if "boolean" in json_types and value in (*TRUE_WORDS, *FALSE_WORDS):
            return parse_switch(path, value)
        if "string" in json_types:
            return value
        return self._read(types[0]["name"], value, path)


def _values(entity: Entity) -> list[str]:
    """Return an enumeration's values; before QEMU 6.2 there is ``values`` alone."""
    if "members" in entity:
        return [each["name"] for each in entity["members"]]
    return list(entity["values"])


def _scalar(json_type: str, value: Any, path: str) -> Any:
    if not isinstance(value, str):
        raise UsageError(f"Parameters '{path}.*' are unexpected")
    match json_type:
        case "int":
            if value.startswith("-") and value[1:].isdigit():
                return int(value)
            return parse_size_option(path, value)
        case "boolean":
            return parse_switch(path, value)
        case "number":
            try:
                return float(value)
            except ValueError as error:
                raise UsageError(f"Parameter '{path}' expects a number") from error
        case "null":
            return None
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
