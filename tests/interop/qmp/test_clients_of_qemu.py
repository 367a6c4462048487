"""The clients of the package qemu.qmp drive qmon: a program, qmp-shell as QMP and as HMP, qmp-tui."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import QMPClient

from tests.support.images import MIB, blank, drive
from tests.support.peers import lack
from tests.support.processes import Lab, Qmon
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE

BIN = Path(sys.executable).parent


@pytest.fixture
def qmon(lab: Lab) -> Qmon:
    qmon = lab.start("qmon", *drive(blank(lab.folder / "disk.img", MIB)))
    assert qmon.status() == "running"
    return qmon


def shell(qmon: Qmon, *options: str, lines: list[str]) -> str:
    """What qmp-shell prints for these lines."""
    done = subprocess.run(
        [BIN / "qmp-shell", *options, qmon.qmp_path],
        input="\n".join([*lines, ""]),
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_program(qmon: Qmon) -> None:
    """It moves a disk's end, and hears the events of what it does."""

    async def program() -> None:
        client = QMPClient("test")
        await client.connect(str(qmon.qmp_path))
        assert client.greeting is not None
        version: Any = client.greeting.QMP.version["qemu"]
        assert (version["major"], version["minor"]) >= (7, 2)
        with client.listener(("STOP", "RESUME")) as listener:
            await client.execute("stop")
            await client.execute("block_resize", {"device": "d0", "size": 2 * MIB})
            await client.execute("cont")
            assert [(await listener.get())["event"] for _ in range(2)] == ["STOP", "RESUME"]
        shown: Any = await client.execute("query-block")
        assert shown[0]["inserted"]["image"]["virtual-size"] == 2 * MIB
        assert "VM status: running" in str(
            await client.execute("human-monitor-command", {"command-line": "info status"})
        )
        await client.disconnect()

    asyncio.run(program())


def test_qmp_shell(qmon: Qmon) -> None:
    said = shell(
        qmon,
        lines=[
            "query-status",
            "block_resize device=d0 size=2097152",
            "nosuch",
            "query-block",
        ],
    )
    assert "Connected to QEMU 7.2.0" in said
    answers = [json.loads(line) for line in said.replace("(QEMU) ", "").splitlines() if line.startswith("{")]
    assert answers[0] == {"return": {"status": "running", "singlestep": False, "running": True}}
    assert answers[1] == {"return": {}}
    assert answers[2]["error"]["class"] == "CommandNotFound"
    assert answers[-1]["return"][0]["inserted"]["image"]["virtual-size"] == 2 * MIB


def test_qmp_shell_as_a_human_monitor(qmon: Qmon) -> None:
    said = shell(qmon, "-H", lines=["info status", "block_resize d0 2M", "block_resize nope 1"])
    assert "VM status: running" in said
    assert "Error: Cannot find device='nope'" in said
    assert qmon.qmp("query-block")[0]["inserted"]["image"]["virtual-size"] == 2 * MIB


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if find_spec("urwid") is None:
        lack("qemu.qmp[tui]")
    terminal = Terminal(tmp_path / "tmux", columns=120)
    yield terminal
    terminal.close()


def test_qmp_tui(qmon: Qmon, terminal: Terminal) -> None:
    def wait_for(text: str) -> None:
        """It draws what has come when a key is pressed."""

        def is_shown(screen: str) -> bool:
            terminal.press("Down")
            return text in screen

        terminal.wait_whole(is_shown, text)

    terminal.type(f"{BIN}/qmp-tui {qmon.qmp_path}\r")
    wait_for("[Connected")
    terminal.type('{"execute": "query-status"}')
    terminal.press("M-Enter")
    wait_for('"status": "running"')
    terminal.type('{"execute": "stop"}')
    terminal.press("M-Enter")
    wait_for('"event": "STOP"')
    assert qmon.status() == "paused"
