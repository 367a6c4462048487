from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.completion import complete
from qmon.hmp.monitor import Monitor
from qmon.hmp.table import Tables
from qmon.qmp.registry import Registry
from tests.hmp.fake import FakeMachine, one_command


def offered(text: str, tables: Tables | None = None) -> list[str]:
    """The whole lines that the suggestions would make."""
    suggestions = asyncio.run(complete(Monitor(FakeMachine().registry, tables), text))
    return [text[: suggestion.start] + suggestion.text for suggestion in suggestions]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("dr", [f"drive_{name}" for name in ("add", "backup", "del", "mirror")]),
        ("  quit", ["  quit"]),
        ("info mig", [f"info migrate{end}" for end in ("", "_capabilities", "_parameters")]),
        ("help info st", ["help info stats", "help info status"]),
        ("help drive_d", ["help drive_del"]),
        ("? inf", ["? info"]),
        ("drive_del ", ["drive_del d0"]),
        ("drive_del d0 ", []),
        ("block_resize ", ["block_resize d0"]),
        ("eject -f ", ["eject -f d0"]),
        ("qemu-io ", ["qemu-io -d", "qemu-io d0"]),
        ("info block -", ["info block -n", "info block -v"]),
        ("info block -v ", ["info block -v -n", "info block -v d0"]),
        ("migrate -d ", [f"migrate -d {flag}" for flag in ("-b", "-i", "-r", "blk", "inc")]),
        ("migrate -d blk ", [f"migrate -d blk {flag}" for flag in ("-i", "-r", "inc")]),
        ("migrate blk -i i", []),
        ("migrate_set_parameter max", ["migrate_set_parameter max-bandwidth"]),
        ("migrate_set_parameter max-bandwidth ", []),
        ("migrate_set_capability e", ["migrate_set_capability events"]),
        (
            "migrate_set_capability events o",
            [f"migrate_set_capability events {word}" for word in ("off", "on")],
        ),
        ("nosuch ", []),
        ("quit # c", []),
    ],
)
def test_what_could_follow_is_offered(text: str, lines: list[str]) -> None:
    assert offered(text) == lines


def test_the_empty_line_offers_every_name_with_its_meaning() -> None:
    monitor = Monitor(Registry())
    suggestions = asyncio.run(complete(monitor, ""))
    assert [suggestion.text for suggestion in suggestions] == monitor.tables.main.names()
    assert all(suggestion.meaning for suggestion in suggestions)


def test_a_target_without_drives_offers_none() -> None:
    assert asyncio.run(complete(Monitor(Registry()), "drive_del ")) == []


def test_files_are_offered_in_quotes_where_they_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.img").touch()
    (tmp_path / "one two.img").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "three.img").touch()
    (tmp_path / ".hidden").touch()
    monkeypatch.chdir(tmp_path)
    tables = one_command("a:F,b:b")
    assert offered("cmd one", tables) == ["cmd one.img"]
    assert offered('cmd "one', tables) == ['cmd "one two.img"', 'cmd "one.img"']
    assert offered("cmd fol", tables) == ["cmd folder/"]
    assert offered("cmd folder/t", tables) == ["cmd folder/three.img"]
    assert offered(f"cmd {tmp_path}/fold", tables) == [f"cmd {tmp_path}/folder/"]
    assert offered("cmd nosuch/", tables) == []
    assert offered("cmd x o", tables) == ["cmd x off", "cmd x on"]


@given(text=st.text(st.sampled_from('migrate-d blk info"/#p x')))
def test_a_suggestion_goes_on_from_what_is_typed(text: str) -> None:
    for suggestion in asyncio.run(complete(Monitor(FakeMachine().registry), text)):
        assert suggestion.text.startswith(text[suggestion.start :])


def test_objects_are_offered_by_type_and_by_id() -> None:
    async def types(implements: str, abstract: bool) -> list[dict[str, str]]:
        return [{"name": name, "parent": "object"} for name in ("secret", "iothread")]

    async def listing(path: str) -> list[dict[str, str]]:
        return [{"name": "type", "type": "string"}, {"name": "io0", "type": "child<iothread>"}]

    registry = Registry()
    assert asyncio.run(complete(Monitor(registry), "object_add ")) == []
    assert asyncio.run(complete(Monitor(registry), "object_del ")) == []
    registry.add("qom-list-types", types)
    registry.add("qom-list", listing)
    for line, choices in (
        ("object_add ", ["iothread", "secret"]),
        ("object_add s", ["secret"]),
        ("object_del ", ["io0"]),
    ):
        offered = asyncio.run(complete(Monitor(registry), line))
        assert [suggestion.text for suggestion in offered] == choices
