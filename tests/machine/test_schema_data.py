"""The schema's data: in one piece, with a text for all, and the same as the functions and tables say."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import qmon
from docs.qmp_reference import qmp_reference
from qmon.machine.object_types import CLASSES
from qmon.machine.runstate import RunState
from qmon.migration.capabilities import CAPABILITIES
from qmon.migration.parameters import PARAMETERS, Kind
from qmon.notation import chardev_options
from qmon.notation.driver_options import (
    CACHE,
    COMMON,
    FILE,
    FILE_DRIVERS,
    FORMAT_DRIVERS,
    OTHER_DRIVERS,
    QCOW2,
    THROTTLE,
)
from qmon.notation.json_text import parse_json
from qmon.notation.object_options import LIMIT_NAMES
from qmon.notation.qapi import (
    BUILTINS,
    LACKS,
    Expression,
    Member,
    Schema,
    default_schema,
    expressions,
    meta_of,
)
from qmon.notation.qapi_comments import Told, documentation, title
from qmon.qmp.absent import ABSENT, Row
from qmon.qmp.registry import CommandFunction
from qmon.qmp.schema import Binding
from tests.support.embedded_lab import EmbeddedLab, Play
from tests.support.results import check_result

SCHEMA = default_schema()
COMMANDS = SCHEMA.names("command")
EVENTS = SCHEMA.names("event")


@lru_cache(maxsize=1)
def told() -> dict[str, Told]:
    return {name: each for text in SCHEMA.texts.values() for name, each in documentation(text).items()}


def words_of(name: str) -> set[str]:
    """The members of a definition, or its values."""
    expression = SCHEMA[name]
    if "enum" in expression:
        return set(SCHEMA.words(name))
    of = name if meta_of(expression) in ("struct", "union") else expression.get("data")
    return {each.name for each in SCHEMA.members(of)}


def told_words(name: Any) -> set[str]:
    """The members that the comments tell of: those of a definition, of its data and of its base."""
    if not isinstance(name, str):
        return set()
    expression = SCHEMA[name]
    own = told().get(name, {}).keys() - {""}
    return {*own, *told_words(expression.get("data")), *told_words(expression.get("base"))}


def test_the_strict_reader_reads_the_same() -> None:
    for family, text in SCHEMA.texts.items():
        bodies = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        pieces = [piece for piece in bodies.replace("\n{", "\n\0{").split("\0") if piece.strip()]
        assert [parse_json(piece) for piece in pieces] == expressions(text), family


def test_each_name_is_defined_once_and_each_type_is_used() -> None:
    names = [name for family in SCHEMA.families.values() for name in family]
    assert len(names) == len(set(names))
    used = {each for name in names for each in types_in(SCHEMA[name])} - BUILTINS.keys()
    defined = {name for name in names if meta_of(SCHEMA[name]) not in ("command", "event")}
    assert used == defined


def types_in(expression: Expression) -> Iterator[str]:
    """The names of types in an expression."""
    if "enum" not in expression:
        for key in ("base", "data", "returns"):
            written = expression.get(key, {})
            for each in written.values() if isinstance(written, dict) else (written,):
                type_ = each["type"] if isinstance(each, dict) else each
                yield type_[0] if isinstance(type_, list) else type_


@pytest.mark.parametrize("name", [*COMMANDS, *EVENTS])
def test_each_command_and_event_and_each_argument_has_a_text(name: str) -> None:
    about = told()[name]
    assert about[""].endswith(".")
    if name != "migrate-set-parameters":  # the table of the parameters tells of them
        assert words_of(name) == told_words(name)
    assert "QEMU" not in about[""] or name in ("query-events", "query-version", "x-qmon-check-copy")


def test_no_text_is_about_a_member_that_is_not_there() -> None:
    for name, about in told().items():
        assert about.keys() - {""} <= words_of(name), name
    assert all(title(text) for text in SCHEMA.texts.values())


def test_functions_take_what_the_schema_says(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        registry = (await lab.start()).embedded.registry
        for name in registry.commands():
            check_parameters(name, registry.function(name), SCHEMA.members(SCHEMA[name].get("data", {})))

    play(scene)


def check_parameters(name: str, function: CommandFunction, arguments: list[Member]) -> None:
    binding = Binding(function)
    parameters = inspect.signature(function).parameters
    required = {binding.keyword(each.name) for each in arguments if not each.is_optional}
    known = {each.name.replace("-", "_") for each in arguments}
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        assert parameter.name.rstrip("_") in known or isinstance(SCHEMA[name]["data"], str), (name, parameter)
        assert parameter.default is not parameter.empty or parameter.name in required, (name, parameter)


def test_each_event_that_is_sent_is_in_the_schema_and_the_reverse() -> None:
    source = {path: ast.parse(path.read_text()) for path in Path(qmon.__file__).parent.rglob("*.py")}
    written = {
        node.value
        for path, tree in source.items()
        if not {"console", "hmp", "remote", "program"} & set(path.parts)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(EVENTS) <= written
    sent = {each for tree in source.values() for each in sent_in(tree)}
    assert sent <= set(EVENTS)


def sent_in(tree: ast.Module) -> Iterator[str]:
    """The events whose names a module gives to ``emit``, as a text or by the name of a constant."""
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit":
            match node.args:
                case [ast.Constant(str(name)), *_]:
                    yield name
                case [ast.Name(constant), *_] if constant in constants:
                    yield str(constants[constant])


TYPES = {
    Kind.UINT8: "uint8",
    Kind.UINT32: "uint32",
    Kind.UINT64: "uint64",
    Kind.SWITCH: "bool",
    Kind.TEXT: "StrOrNull",
    Kind.MAPPING: ["BitmapMigrationNodeAlias"],
}


def test_migration_parameters_and_capabilities_are_those_of_their_tables() -> None:
    for name in ("MigrateSetParameters", "MigrationParameters"):
        members = {each.name: each for each in SCHEMA.members(name)}
        assert list(members) == [
            row.name for row in sorted(PARAMETERS, key=lambda row: list(members).index(row.name))
        ]
        for row in PARAMETERS:
            type_ = members[row.name].type
            if row.kind is Kind.CHOICE:
                assert SCHEMA.words(type_) == row.choices
            else:
                assert type_ == TYPES[row.kind] or (type_ == "str" and name == "MigrationParameters")
    assert set(SCHEMA.words("MigrationCapability")) == {row.name for row in CAPABILITIES}


def test_words_are_those_of_the_tables() -> None:
    assert set(SCHEMA.words("BlockdevDriver")) == {*FILE_DRIVERS, *FORMAT_DRIVERS, THROTTLE}
    assert set(SCHEMA["BlockdevDriver"][LACKS]) <= OTHER_DRIVERS
    assert set(SCHEMA.words("ChardevBackendKind")) == set(chardev_options.KINDS)
    assert set(SCHEMA.words("ObjectType")) == set(CLASSES)
    assert [each.name for each in SCHEMA.members("ThrottleLimits")] == list(LIMIT_NAMES)
    assert {each.value for each in RunState} <= set(SCHEMA.words("RunState"))


def flat(type_: Any) -> set[str]:
    """The names of a type's scalars as an option string has them: ``cache.direct``."""
    names = set()
    for member in SCHEMA.members(type_):
        expression = {} if member.type in BUILTINS else SCHEMA[member.type]
        data = expression.get("data", {})
        inner = [data["flags"]] if "alternate" in expression and "flags" in data else []
        inner += [member.type] if "struct" in expression else []
        names |= {f"{member.name}.{each}" for type_ in inner for each in flat(type_)}
        names |= set() if "struct" in expression else {member.name}
    return names


def test_options_of_drivers_are_those_of_their_tables() -> None:
    read_elsewhere = {"driver", "node-name", "read-only", "force-share", "filename", "detect-zeroes"}
    read_elsewhere |= {"file", "backing", "encrypt", "data-file"}
    assert flat("BlockdevOptions") - read_elsewhere == COMMON.keys() | set(CACHE)
    assert flat("BlockdevOptionsFile") - read_elsewhere == FILE.keys()
    assert flat("BlockdevOptionsQcow2") - read_elsewhere == QCOW2.keys()


@pytest.mark.parametrize(
    "row", [row for row in ABSENT if row.is_offered and not row.fails], ids=lambda row: row.qmp
)
def test_what_is_answered_for_a_part_that_is_not_there_fits_the_schema(row: Row) -> None:
    check_result(row.qmp, row.answer)


def test_the_manuals_reference_has_every_definition_and_every_member() -> None:
    entries = qmp_reference(SCHEMA).split(".. index:: single: ")[1:]
    names = [name for family in SCHEMA.families.values() for name in family]
    assert [entry.partition(" (QMP ")[0] for entry in entries] == names
    for name, entry in zip(names, entries, strict=True):
        assert told().get(name, {}).get("", "") in entry
        if isinstance(SCHEMA[name].get("data"), str):
            assert f"qmp-{SCHEMA[name]['data'].lower()}>`" in entry
        else:
            assert all(f"``{word}``" in entry for word in words_of(name)) or "alternate" in SCHEMA[name]
            assert all(text in entry for text in told().get(name, {}).values())


def test_a_schema_of_another_text_stands_alone() -> None:
    schema = Schema({"a": "# A.\n\n{ 'command': 'c', 'data': { '*n': 'int' } }\n"})
    assert schema.names("command") == ["c"]
    with pytest.raises(KeyError):
        schema.arguments("d")
