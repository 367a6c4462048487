"""The record of a migration over time, as each side tells it: by QMP, at a terminal, in a script."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB, blank, drive, filled
from tests.support.peer import QEMU_7, Peer
from tests.support.peers import require
from tests.support.processes import QMON, Lab, Qmon, migrated
from tests.support.runs import run
from tests.support.terminal import Terminal

QUERY = "qmp x-qmon-query-migrate-timeline"


def timeline(side: Any) -> dict[str, Any]:
    return dict(json.loads(side.command(QUERY)))


def states(found: dict[str, Any]) -> list[str]:
    return [mark["text"] for mark in found["marks"] if mark["kind"] == "state"]


def test_both_sides_keep_it(lab: Lab) -> None:
    image, empty = filled(lab.folder / "a", 4 * MIB), blank(lab.folder / "b", 4 * MIB)
    source, target, uri = lab.pair(drive(image), drive(empty))
    assert timeline(source) == {"status": "none", "points": [], "marks": []}
    migrated(source, target, f"migrate -d blk {uri}")
    here, there = timeline(source), timeline(target)
    assert (here["x-qmon-side"], there["x-qmon-side"]) == ("source", "destination")
    assert states(here) == ["setup", "active", "switchover", "prepared", "gone", "completed"]
    assert states(there)[:5] == ["setup", "active", "prepared", "gone", "completed"]
    for found in (here, there):
        times = [point["time"] for point in found["points"]]
        assert times == sorted(times)
        assert found["points"][-1]["remaining"] == 0
        sent = [
            point["send-rate"] * (time - before + 1)  # a time is rounded
            for point, time, before in zip(found["points"], times, [0, *times], strict=False)
        ]
        assert sum(sent) / 1000 > 3 * MIB
    assert {"round", "flush", "switchover", "compared"} <= {mark["kind"] for mark in here["marks"]}


@pytest.fixture
def moved(lab: Lab) -> tuple[Qmon, Qmon]:
    image, empty = filled(lab.folder / "a", 4 * MIB), blank(lab.folder / "b", 4 * MIB)
    control = ["-qmp", f"unix:{lab.folder / 'qmp'},server,nowait"]
    source, target, uri = lab.pair([*drive(image), *control], drive(empty))
    # A busy disk's flush takes long, too: it is the only one, and so is the attempt of the switchover.
    source.quietly("migrate_set_parameter downtime-limit 60000")
    migrated(source, target, f"migrate -d blk {uri}")
    return source, target


def test_a_script_gets_plain_lines_in_order(moved: tuple[Qmon, Qmon]) -> None:
    lines = moved[0].command("info migrate -t").splitlines()
    times = [float(line.split(" s: ")[0]) for line in lines]
    assert times == sorted(times)
    assert any(line.endswith(" s: state: completed") for line in lines)
    figures = r"sent \d+ bytes/s, left 0 bytes, written \d+ bytes/s, longest wait \d+ us, throttle 0 %"
    assert any(re.fullmatch(rf"[\d.]+ s: {figures}", line) for line in lines), lines[-1]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux", 80, 60, XDG_STATE_HOME=str(tmp_path))
    yield terminal
    terminal.close()


@pytest.mark.parametrize(("locale", "full", "edge"), [("C.UTF-8", "█", "│"), ("C", "#", "|")])
def test_a_console_of_another_qmon_draws_it(
    lab: Lab, moved: tuple[Qmon, Qmon], terminal: Terminal, locale: str, full: str, edge: str
) -> None:
    words = ["env", f"LC_ALL={locale}", *QMON, "-connect", f"unix:{lab.folder / 'qmp'}"]
    terminal.type(f"clear; {shlex.join(words)}\r")
    terminal.wait_for(r"^\(qemu[^)]*\) ?$")
    terminal.type("info migrate -t\r")
    screen = terminal.wait_for(r"in all \d+ rounds?, 1 flush, 1 attempt of the switchover")
    assert re.search(rf"^ *[\d.]+ [KM]iB/s{re.escape(edge)}.*{full}", screen, re.MULTILINE), screen
    assert re.search(r"^Left$", screen, re.MULTILINE)
    assert re.search(r"s completed$", screen, re.MULTILINE)
    assert re.search(r"s gone: the destination is told to run$", screen, re.MULTILINE)


def test_a_qemu_has_none(tmp_path: Path) -> None:
    require(*QEMU_7)
    with Peer(QEMU_7, tmp_path / "qemu") as qemu:
        done = run("-connect", f"unix:{qemu.qmp_path}", "-c", "info migrate -t")
    assert done.returncode != 0
    assert "A QEMU keeps no time line of its migrations: 'info migrate' shows what it knows" in done.stderr
