"""The history file: where it is, who may read it, what it holds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from qmon.console.history import CommandHistory, default_path


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
    assert str(default_path(environ)) == os.path.expanduser(path)


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
