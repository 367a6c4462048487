"""Arguments of every type in every place: what a real QEMU says of them, qmon says, too.

Each message has one member too many. So no command runs, whatever the other members are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qmon.notation.qapi import BUILTINS, Member, Type, default_schema, meta_of
from tests.support.schema_differences import reasons
from tests.support.thoroughness import SHARE, THOROUGH
from tests.support.two_qmp import two_qmp

SCHEMA = default_schema()
TOO_MANY = "one-too-many"
VALUES: tuple[Any, ...] = (
    *(None, True, 5, -1, 127, 128, -129, 255, 256, 32768, 65536, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63),
    *(-1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 64), 1.5, "", "x", "4G", [], [None], {}, {TOO_MANY: 1}),
)
LATER = {line.split(" only qmon has ")[1] for line in reasons() if " only qmon has " in line}
"""Names that QEMU 7.2 does not have."""


def is_theirs(name: str) -> bool:
    return name not in LATER and not name.startswith("x-qmon-")


class Puzzle:
    """Makes values of types: a small valid one, and many others."""

    def __init__(self) -> None:
        self._taken_apart: set[str] = set()

    def valid(self, type_: Type) -> Any:
        """A value of a type, as small as possible."""
        if isinstance(type_, list):
            return []
        if type_ in BUILTINS:
            return {"str": "x", "bool": True, "null": None}.get(type_, 1)
        expression = SCHEMA[type_]
        match meta_of(expression):
            case "enum":
                return SCHEMA.words(type_)[0]
            case "alternate":
                return self.valid(SCHEMA.members(expression["data"])[0].type)
            case "union":
                word, branch = next(iter(SCHEMA.branches(type_).items()))
                return self._branch(type_, word, branch)
        return self._needed(SCHEMA.members(type_))

    def _needed(self, members: list[Member]) -> dict[str, Any]:
        return {each.name: self.valid(each.type) for each in members if not each.is_optional}

    def _branch(self, union: str, word: str, branch: str | None) -> dict[str, Any]:
        needed = self._needed([*SCHEMA.members(union), *SCHEMA.members(branch)])
        return {**needed, SCHEMA[union]["discriminator"]: word}

    def values(self, type_: Type) -> Iterator[Any]:
        """Values in the place of a type, right and wrong ones. Each type is taken apart once."""
        yield from VALUES
        if isinstance(type_, list):
            yield from ([each] for each in self.values(type_[0]))
        elif type_ not in BUILTINS and type_ not in self._taken_apart:
            self._taken_apart.add(type_)
            yield from self._parts(type_)

    def _parts(self, type_: str) -> Iterator[Any]:
        expression = SCHEMA[type_]
        match meta_of(expression):
            case "enum":
                yield from filter(is_theirs, SCHEMA.words(type_))
            case "alternate":
                for choice in SCHEMA.members(expression["data"]):
                    yield from self.values(choice.type)
            case "union":
                for word, branch in SCHEMA.branches(type_).items():
                    if is_theirs(word):
                        members = [*SCHEMA.members(type_), *SCHEMA.members(branch)]
                        yield from self.objects(members, self._branch(type_, word, branch))
            case _:
                members = SCHEMA.members(type_)
                yield from self.objects(members, self._needed(members))

    def objects(self, members: list[Member], needed: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Objects with each member in turn missing, or of other values; all have one member too many."""
        yield {TOO_MANY: 1}
        yield {**needed, TOO_MANY: 1}
        for member in filter(lambda each: is_theirs(each.name), members):
            yield {name: value for name, value in needed.items() if name != member.name} | {TOO_MANY: 1}
            for value in self.values(member.type):
                yield {**needed, member.name: value, TOO_MANY: 1}

    def arguments(self, command: str) -> Iterator[dict[str, Any]]:
        data = SCHEMA[command].get("data", {})
        if isinstance(data, str):
            yield from (each for each in self._parts(data) if TOO_MANY in each)
        else:
            members = SCHEMA.members(data)
            yield from self.objects(members, self._needed(members))


def part(every: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All of them, or a sample, always the same."""
    return every if THOROUGH else itertools.islice(every, 0, None, SHARE)


def test_arguments_are_refused_as_by_qemu(tmp_path: Path) -> None:
    puzzle = Puzzle()
    differ = []
    count = 0
    with two_qmp(tmp_path, lambda folder: None) as both:
        theirs, ours = both.qemu.client, both.qmon.client
        listed = [{each["name"] for each in side.run("query-commands")} for side in (theirs, ours)]
        for command in sorted(listed[0] & listed[1]):
            for arguments in part(puzzle.arguments(command)):
                count += 1
                message = {"execute": command, "arguments": arguments}
                said, expected = ours.send(message), theirs.send(message)
                assert "error" in expected
                if said != expected:
                    differ.append(f"{message}\n  QEMU: {expected}\n  qmon: {said}")
    assert count > 5000 / (1 if THOROUGH else SHARE)
    assert not differ, "\n".join(differ)
