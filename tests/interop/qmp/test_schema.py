"""The schema that qmon shows, against a real QEMU's: each command and event that both have, and all in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.support.schema_differences import reasons
from tests.support.two_qmp import TwoQmp, two_qmp

Entity = Mapping[str, Any]

NUMBERED = ("object", "enum", "alternate")


class Shown:
    """What ``query-qmp-schema`` has returned."""

    def __init__(self, entities: list[Entity]) -> None:
        self.entities = {each["name"]: each for each in entities}

    def names(self) -> set[str]:
        return {name for name, each in self.entities.items() if each["meta-type"] in ("command", "event")}

    def get(self, name: str) -> Entity:
        return self.entities[name]


class Comparison:
    """Yields the places where two schemas differ, each as one line."""

    def __init__(self, theirs: Shown, ours: Shown) -> None:
        self._theirs, self._ours = theirs, ours
        self._seen: set[tuple[str, str]] = set()

    def of(self, name: str) -> Iterator[str]:
        yield from self._plain(name, self._theirs.get(name), self._ours.get(name))
        for member in ("arg-type", "ret-type"):
            if member in self._theirs.get(name):
                mine, yours = self._ours.get(name)[member], self._theirs.get(name)[member]
                yield from self._type(f"{name} {member[:3]}", yours, mine)

    def _plain(self, path: str, theirs: Entity, ours: Entity) -> Iterator[str]:
        """Compare what has no types in it."""
        for key in ("meta-type", "json-type", "allow-oob", "tag"):
            if theirs.get(key) != ours.get(key):
                yield f"{path}: {key}: QEMU {theirs.get(key)}, qmon {ours.get(key)}"
        if set(theirs.get("features", ())) != set(ours.get("features", ())):
            yield f"{path}: features: QEMU {theirs.get('features')}, qmon {ours.get('features')}"

    def _type(self, path: str, their_name: str, our_name: str) -> Iterator[str]:
        if (their_name, our_name) in self._seen:
            return
        self._seen.add((their_name, our_name))
        theirs, ours = self._theirs.get(their_name), self._ours.get(our_name)
        yield from self._plain(path, theirs, ours)
        if theirs["meta-type"] != ours["meta-type"]:
            return
        match theirs["meta-type"]:
            case "array":
                yield from self._type(path, theirs["element-type"], ours["element-type"])
            case "enum":
                yield from self._members(path, theirs, ours)
                if set(ours["values"]) != {each["name"] for each in ours["members"]}:
                    yield f"{path}: values and members differ"
            case "alternate":
                yield from self._alternate(path, theirs, ours)
            case "object":
                yield from self._members(path, theirs, ours)
                yield from self._variants(path, theirs, ours)

    def _members(self, path: str, theirs: Entity, ours: Entity) -> Iterator[str]:
        their_members = {each["name"]: each for each in theirs["members"]}
        our_members = {each["name"]: each for each in ours["members"]}
        yield from _only(path, their_members.keys(), our_members.keys())
        for name in their_members.keys() & our_members.keys():
            here = f"{path}.{name}"
            yield from self._plain(here, their_members[name], our_members[name])
            if ("default" in their_members[name]) != ("default" in our_members[name]):
                yield f"{here}: optional on one side only"
            if "type" in their_members[name]:
                yield from self._type(here, their_members[name]["type"], our_members[name]["type"])

    def _variants(self, path: str, theirs: Entity, ours: Entity) -> Iterator[str]:
        their_cases = {each["case"]: each["type"] for each in theirs.get("variants", ())}
        our_cases = {each["case"]: each["type"] for each in ours.get("variants", ())}
        yield from (
            line for line in _only(f"{path}({theirs.get('tag')})", their_cases.keys(), our_cases.keys())
        )
        for case in their_cases.keys() & our_cases.keys():
            yield from self._type(f"{path}({case})", their_cases[case], our_cases[case])

    def _alternate(self, path: str, theirs: Entity, ours: Entity) -> Iterator[str]:
        by_kind = [
            {shown.get(each["type"])["meta-type"]: each["type"] for each in of["members"]}
            for shown, of in ((self._theirs, theirs), (self._ours, ours))
        ]
        yield from _only(path, by_kind[0].keys(), by_kind[1].keys())
        for kind in by_kind[0].keys() & by_kind[1].keys() - {"builtin"}:
            yield from self._type(f"{path}<{kind}>", by_kind[0][kind], by_kind[1][kind])


def _only(path: str, theirs: Any, ours: Any) -> Iterator[str]:
    yield from (f"{path}: only QEMU has {name}" for name in sorted(theirs - ours))
    yield from (f"{path}: only qmon has {name}" for name in sorted(ours - theirs))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoQmp]:
    with two_qmp(tmp_path_factory.mktemp("schema"), lambda folder: None) as both:
        yield both


@pytest.fixture(scope="module")
def schemas(both: TwoQmp) -> tuple[Shown, Shown]:
    theirs, ours = (Shown(side.client.run("query-qmp-schema")) for side in (both.qemu, both.qmon))
    return theirs, ours


def test_what_both_have_is_equal_or_has_a_reason(schemas: tuple[Shown, Shown]) -> None:
    theirs, ours = schemas
    comparison = Comparison(theirs, ours)
    common = sorted(theirs.names() & ours.names())
    assert len(common) > 100
    found = [line for name in common for line in comparison.of(name)]
    known = reasons()
    without = [line for line in found if not any(fnmatchcase(line, pattern) for pattern in known)]
    assert not without, "\n".join(without)
    idle = [pattern for pattern in known if not any(fnmatchcase(line, pattern) for line in found)]
    assert not idle, f"nothing differs there any more: {idle}"


def test_what_only_qmon_has_is_its_own(schemas: tuple[Shown, Shown]) -> None:
    theirs, ours = schemas
    more = ours.names() - theirs.names()
    assert "query-events" in more  # QEMU had it until 5.2
    assert {name for name in more if not name.lower().startswith(("x-qmon-", "x_qmon_"))} == {"query-events"}


def test_each_command_and_event_is_listed(both: TwoQmp, schemas: tuple[Shown, Shown]) -> None:
    client = both.qmon.client
    listed = {each["name"] for query in ("query-commands", "query-events") for each in client.run(query)}
    assert schemas[1].names() == listed


def test_types_have_numbers_for_names(schemas: tuple[Shown, Shown]) -> None:
    for shown in schemas:
        names = [name for name, each in shown.entities.items() if each["meta-type"] in NUMBERED]
        assert all(name.isdigit() for name in names)
