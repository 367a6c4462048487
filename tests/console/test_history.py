"""The history file: where it is, who may read it, what it holds."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document

from qmon.console.history import CommandHistory, Suggestions, default_path


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"XDG_STATE_HOME": "/srv/state"}, "/srv/state/qmon/history"),
        ({}, "~/.local/state/qmon/history"),
        ({"XDG_STATE_HOME": ""}, "~/.local/state/qmon/history"),
        ({"XDG_STATE_HOME": "relative"}, "~/.local/state/qmon/history"),
    ],
)
def test_the_history_is_in_the_state_folder(environ: dict[str, str], path: str) -> None:
    assert str(default_path("", environ)) == os.path.expanduser(path)


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("web", "history-web"),
        ("vm-1.example", "history-vm-1.example"),
        ("../x y", "history-..%2Fx%20y"),
        (".", "history-."),
        ("ü", "history-%C3%BC"),
        ("\udcff", "history-%FF"),
    ],
)
def test_each_machine_has_a_history_of_its_own(machine: str, name: str) -> None:
    assert default_path(machine, {"XDG_STATE_HOME": "/srv"}) == Path("/srv/qmon", name)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=400))
def test_any_name_of_a_machine_gives_a_file_in_the_state_folder(machine: str) -> None:
    path = default_path(machine, {"XDG_STATE_HOME": "/srv"})
    assert path.parent == Path("/srv/qmon")
    assert path.name.startswith("history-")
    assert len(os.fsencode(path.name)) <= 255
    assert path != default_path(machine + "x", {"XDG_STATE_HOME": "/srv"})


def suggested(history: CommandHistory, text: str) -> str | None:
    buffer = Buffer(history=history)
    suggestion = Suggestions(history).get_suggestion(buffer, Document(text))
    return None if suggestion is None else text + suggestion.text


def test_lines_that_failed_are_recalled_but_not_suggested(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = CommandHistory(path, print)
    for line, failed in (("info block", False), ("info blok", True), ("stop", False), ("info blok", True)):
        history.append_string(line)
        history.note_result(line, failed=failed)
    again = CommandHistory(path, print)
    asyncio.run(loaded(again))
    for each in (history, again):
        assert each.get_strings() == ["info block", "info blok", "stop", "info blok"]
        assert suggested(each, "info b") == "info block"
        assert suggested(each, "info blok") is None
        assert suggested(each, "") is None


def test_a_line_that_failed_is_suggested_once_it_has_run(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = CommandHistory(path, print)
    history.append_string("migrate tcp:b:4444")
    history.note_result("migrate tcp:b:4444", failed=True)
    assert suggested(history, "mig") is None
    history.append_string("migrate tcp:b:4444")
    history.note_result("migrate tcp:b:4444", failed=False)
    again = CommandHistory(path, print)
    asyncio.run(loaded(again))
    assert suggested(history, "mig") == suggested(again, "mig") == "migrate tcp:b:4444"


def test_a_secret_line_that_fails_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = CommandHistory(path, print)
    history.prepare()
    history.append_string("set_password vnc hidden", is_secret=True)
    history.note_result("set_password vnc hidden", failed=True, is_secret=True)
    assert path.read_text() == ""
    assert suggested(history, "set") is None


async def loaded(history: CommandHistory) -> None:
    async for _ in history.load():
        pass


def test_lines_come_back_newest_first_from_a_private_file(tmp_path: Path) -> None:
    complaints: list[str] = []
    path = tmp_path / "qmon" / "history"
    first, second = (CommandHistory(path, complaints.append) for _ in range(2))
    first.prepare()
    first.append_string("info block")
    second.append_string("stop # ünïcode")
    second.append_string("stop # ünïcode")
    first.append_string("cont")
    assert list(CommandHistory(path, complaints.append).load_history_strings()) == [
        "cont",
        "stop # ünïcode",
        "info block",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert complaints == []


def test_a_huge_history_gives_its_end(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("".join(f"print {number:060}\n" for number in range(20_000)))
    lines = list(CommandHistory(path, print).load_history_strings())
    assert 1000 < len(lines) < 10_000
    assert lines[0] == f"print {19_999:060}"
    assert all(len(line) == 66 for line in lines)


def test_what_cannot_be_kept_is_said_once_and_remembered_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "qmon").write_text("no folder")
    complaints: list[str] = []
    history = CommandHistory(tmp_path / "qmon" / "history", complaints.append)
    history.prepare()
    history.append_string("stop")
    history.append_string("cont")
    assert len(complaints) == 1
    assert str(tmp_path / "qmon" / "history") in complaints[0]
    assert history.get_strings() == ["stop", "cont"]
