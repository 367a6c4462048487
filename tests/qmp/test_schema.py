"""Arguments against the schema: what fits is passed on, what does not is told in QEMU's words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import CommandError, CommandNotFoundError, UsageError
from qmon.notation.qapi import Schema
from qmon.qmp.registry import Registry, command

SCHEMA = """
# A comment.

##
# @Kind: A kind.
##
{ 'enum': 'Kind', 'data': [ 'a', { 'name': 'b', 'features': ['deprecated'] } ], 'x-qmon-lacks': [ 'z' ] }

{ 'struct': 'Inner', 'data': { 'path': 'str', '*port': 'int' } }

{ 'struct': 'Outer', 'base': 'Inner', 'data': { '*small': 'int8' } }

{ 'union': 'Chosen', 'base': { 'kind': 'Kind', '*name': 'str' }, 'discriminator': 'kind',
  'data': { 'b': 'Inner' } }

{ 'alternate': 'NameOrInner', 'data': { 'name': 'str', 'inner': 'Inner', 'nothing': 'null' } }

{ 'command': 'all',
  'data': { 'text': 'str', '*number': 'int', '*count': 'uint32', '*size': 'uint64', '*factor': 'number',
            '*flag': 'bool', '*kind': 'Kind', '*names': ['str'], '*inner': 'Inner', '*outer': 'Outer',
            '*chosen': 'Chosen', '*either': 'NameOrInner', '*any': 'any' } }

{ 'command': 'x-underscored', 'data': { 'has_underscore': 'int', 'has-dash': 'int' }, 'returns': 'int' }

{ 'command': 'open', 'data': 'Open' }

{ 'struct': 'Open', 'data': { 'id': 'str', '*count': 'int', '*host-port': 'int', '*x': 'any' } }

{ 'command': 'narrow', 'data': { '*has-effect': 'bool', '*has-none': 'bool' } }

{ 'command': 'fails', 'data': { 'how': 'str' } }

{ 'command': 'query-commands', 'returns': ['any'] }
"""


class Commands:
    """One command for each kind of argument."""

    @command("all")
    async def all(
        self,
        text: str,
        number: int | None = None,
        count: int | None = None,
        size: int | None = None,
        factor: float | None = None,
        flag: bool | None = None,
        kind: str | None = None,
        names: list[str] | None = None,
        inner: dict[str, Any] | None = None,
        outer: dict[str, Any] | None = None,
        chosen: dict[str, Any] | None = None,
        either: Any = None,
        any_: Any = None,
    ) -> dict[str, Any]:
        given = {key: value for key, value in locals().items() if key != "self" and value is not None}
        return {"given": given}

    @command("x-underscored")
    async def underscored(self, has_underscore: int, has_dash: int) -> int:
        return has_underscore - has_dash

    @command("open")
    async def open(self, id: str, count: int | None = None, **options: Any) -> dict[str, Any]:
        return {"id": id, "count": count, **options}

    @command("narrow")
    async def narrow(self, has_effect: bool | None = None) -> dict[str, Any]:
        return {"has-effect": has_effect}

    @command("fails")
    async def fails(self, how: str) -> None:
        match how:
            case "os":
                raise FileNotFoundError(2, "No such file or directory", "/x")
            case "usage":
                raise UsageError("error parsing address 'x'")
        raise CommandError("No medium", "DeviceNotActive")


@pytest.fixture
def registry() -> Registry:
    registry = Registry(schema=Schema({"test": SCHEMA}))
    registry.add_from(Commands())
    return registry


def call(registry: Registry, name: str = "all", **arguments: Any) -> Any:
    given = {key.replace("_", "-"): value for key, value in arguments.items()}
    return asyncio.run(registry.execute(name, given))


def refusal(registry: Registry, **arguments: Any) -> str:
    with pytest.raises(CommandError) as caught:
        call(registry, **arguments)
    assert caught.value.error_class == "GenericError"
    return str(caught.value)


GOOD: dict[str, Any] = {
    "text": "t",
    "number": -(1 << 63),
    "count": (1 << 32) - 1,
    "size": (1 << 64) - 1,
    "factor": 1,
    "flag": False,
    "kind": "b",
    "names": ["x", ""],
    "inner": {"path": "/x", "port": 5},
    "outer": {"path": "", "small": -128},
    "chosen": {"kind": "b", "path": "/x"},
    "either": {"path": "/x"},
    "any_": [{}],
}


def test_what_fits_is_passed_on(registry: Registry) -> None:
    arguments = {key.rstrip("_"): value for key, value in GOOD.items()}
    assert asyncio.run(registry.execute("all", arguments)) == {"given": GOOD}
    assert call(registry, text="t") == {"given": {"text": "t"}}


def test_names_have_dashes_but_where_qmp_has_underscores(registry: Registry) -> None:
    arguments = {"has_underscore": 5, "has-dash": 3}
    assert asyncio.run(registry.execute("x-underscored", arguments)) == 2
    with pytest.raises(CommandError, match="Parameter 'has-dash' is missing"):
        asyncio.run(registry.execute("x-underscored", {"has_underscore": 5, "has_dash": 3}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "Parameter 'text' is missing"),
        ({"text": 5}, "Invalid parameter type for 'text', expected: string"),
        ({"text": None}, "Invalid parameter type for 'text', expected: string"),
        ({"number": "5"}, "Invalid parameter type for 'number', expected: integer"),
        ({"number": 5.0}, "Invalid parameter type for 'number', expected: integer"),
        ({"number": True}, "Invalid parameter type for 'number', expected: integer"),
        ({"number": 1 << 63}, "Invalid parameter type for 'number', expected: integer"),
        ({"count": -1}, "Parameter 'count' expects uint32_t"),
        ({"count": 1 << 32}, "Parameter 'count' expects uint32_t"),
        ({"count": "1"}, "Parameter 'count' expects uint64"),
        ({"count": True}, "Parameter 'count' expects uint64"),
        ({"size": 1 << 64}, "Parameter 'size' expects uint64"),
        ({"size": "1"}, "Parameter 'size' expects uint64"),
        ({"size": 1.5}, "Parameter 'size' expects uint64"),
        ({"factor": "1"}, "Invalid parameter type for 'factor', expected: number"),
        ({"factor": False}, "Invalid parameter type for 'factor', expected: number"),
        ({"flag": "yes"}, "Invalid parameter type for 'flag', expected: boolean"),
        ({"flag": 1}, "Invalid parameter type for 'flag', expected: boolean"),
        ({"kind": "c"}, "Parameter 'kind' does not accept value 'c'"),
        ({"kind": 5}, "Invalid parameter type for 'kind', expected: string"),
        ({"names": "x"}, "Invalid parameter type for 'names', expected: array"),
        ({"names": ["x", 5]}, "Invalid parameter type for 'names[1]', expected: string"),
        ({"inner": []}, "Invalid parameter type for 'inner', expected: object"),
        ({"inner": {}}, "Parameter 'inner.path' is missing"),
        ({"inner": {"path": "x", "port": "5"}}, "Invalid parameter type for 'inner.port', expected: integer"),
        ({"inner": {"path": "x", "more": 1}}, "Parameter 'inner.more' is unexpected"),
        ({"kind": "z"}, "kind 'z' is not supported: use a or b"),
        ({"outer": {"small": 1}}, "Parameter 'outer.path' is missing"),
        ({"outer": {"path": "x", "small": 128}}, "Parameter 'small' expects int8_t"),
        (
            {"outer": {"path": "x", "small": "1"}},
            "Invalid parameter type for 'outer.small', expected: integer",
        ),
        ({"chosen": 5}, "Invalid parameter type for 'chosen', expected: object"),
        ({"chosen": {"path": "x"}}, "Parameter 'chosen.kind' is missing"),
        ({"chosen": {"kind": "b"}}, "Parameter 'chosen.path' is missing"),
        ({"chosen": {"kind": "c"}}, "Parameter 'kind' does not accept value 'c'"),
        ({"chosen": {"kind": "a", "path": "x"}}, "Parameter 'chosen.path' is unexpected"),
        ({"either": 5}, "Invalid parameter type for 'either', expected: NameOrInner"),
        ({"either": {"port": 5}}, "Parameter 'either.path' is missing"),
        ({"other": 5}, "Parameter 'other' is unexpected"),
    ],
)
def test_what_does_not_fit_is_told(registry: Registry, arguments: dict[str, Any], said: str) -> None:
    assert refusal(registry, **{**({"text": "t"} if arguments else {}), **arguments}) == said


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from(sorted(GOOD)), json_values)
def test_any_value_is_passed_on_or_told(name: str, value: Any) -> None:
    registry = Registry(schema=Schema({"test": SCHEMA}))
    registry.add_from(Commands())
    arguments = {"text": "t", name.rstrip("_"): value}
    try:
        result = asyncio.run(registry.execute("all", arguments))
    except CommandError as error:
        said = str(error)
    else:
        assert result["given"].get(name) is value or value is None
        said = f"'{name}'"
    assert f"'{name}" in said


def test_an_unknown_command_is_named_and_the_known_ones_are_listed(registry: Registry) -> None:
    with pytest.raises(CommandNotFoundError, match="The command nonsense has not been found") as caught:
        call(registry, "nonsense")
    assert caught.value.error_class == "CommandNotFound"
    listed = [entry["name"] for entry in call(registry, "query-commands")]
    assert listed == sorted(registry.commands())
    own = {"query-commands", "query-events", "query-qmp-schema"}
    assert set(listed) - own == {"all", "fails", "narrow", "open", "x-underscored"}


@pytest.mark.parametrize(
    ("how", "error_class", "said"),
    [
        ("os", "GenericError", "No such file or directory"),
        ("usage", "GenericError", "error parsing address 'x'"),
        ("command", "DeviceNotActive", "No medium"),
    ],
)
def test_a_failure_is_an_error_of_qmp(registry: Registry, how: str, error_class: str, said: str) -> None:
    with pytest.raises(CommandError) as caught:
        call(registry, "fails", how=how)
    assert (caught.value.error_class, str(caught.value)) == (error_class, said)


def test_an_open_command_gets_the_arguments_that_it_does_not_name(registry: Registry) -> None:
    given = {"id": "n0", "host-port": 5, "x": None}
    assert asyncio.run(registry.execute("open", given)) == {**given, "count": None}
    with pytest.raises(CommandError, match="Parameter 'id' is missing"):
        asyncio.run(registry.execute("open", {"x": "y"}))
    with pytest.raises(CommandError, match="'count', expected: integer"):
        asyncio.run(registry.execute("open", {"id": "n0", "count": "y"}))


def test_an_argument_that_has_no_effect_here_is_refused(registry: Registry) -> None:
    assert asyncio.run(registry.execute("narrow", {"has-effect": True})) == {"has-effect": True}
    with pytest.raises(CommandError, match="Parameter 'has-none' is not supported"):
        asyncio.run(registry.execute("narrow", {"has-none": False}))
