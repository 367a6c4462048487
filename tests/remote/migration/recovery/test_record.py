"""The record that a migration keeps in a QEMU comes back whole, or is refused in one line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import CommandError
from qmon.qmp.target import Arguments, Event
from qmon.remote.migration.recovery.record import (
    NAME,
    Record,
    lives,
    read_record,
    this_console,
    write_record,
)

FULL = Record(
    "0b5e6a52-0000-4000-8000-000000000000",
    "source",
    "tcp:b:4444",
    "moving",
    runs=False,
    is_held=True,
    capabilities={"events": False},
    parameters={"downtime-limit": 300, "tls-creds": ""},
    server=True,
    console=this_console(),
)

json_values: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.text() | st.just([]) | st.just({})
)


class Objects:
    """A QEMU that has objects with one text each, and nothing else."""

    def __init__(self, text: str | None = None) -> None:
        self.texts = {} if text is None else {NAME: text}

    def commands(self) -> frozenset[str]:
        return frozenset(("qom-list", "qom-get", "qom-set", "object-add", "object-del"))

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        match command, dict(arguments or {}):
            case "qom-list", _:
                return [{"name": name} for name in self.texts]
            case "qom-get", _:
                return self.texts[NAME]
            case "object-add", {"id": name, "identity": text}:
                self.texts[name] = text
        return {}

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        return lambda: None


def read(text: str) -> Record | None:
    return asyncio.run(read_record(Objects(text)))


def test_a_record_comes_back_with_every_member() -> None:
    qemu = Objects()
    asyncio.run(write_record(qemu, FULL))
    assert asyncio.run(read_record(qemu)) == FULL


def test_there_may_be_none() -> None:
    assert asyncio.run(read_record(Objects())) is None


@given(st.sampled_from([each.name for each in fields(Record)]), json_values)
def test_a_strange_record_is_refused_in_one_line_that_says_how_to_remove_it(name: str, value: object) -> None:
    told = ""
    try:
        read(json.dumps({**asdict(FULL), name: value}))
    except CommandError as error:
        told = str(error)
    assert told == "" or (told.isprintable() and "object_del qmon-migration" in told)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100000])
def test_a_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="holds no record of a migration"):
        read(text)


def test_a_console_that_has_ended_does_not_live() -> None:
    here = this_console()
    assert not lives({**here, "pid": 4194304})
    assert not lives({**here, "pid": 1, "start": 1})
    assert not lives({**here, "boot": "another", "pid": 1})
