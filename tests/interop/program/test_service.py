"""The manual's systemd units: the lines that they start serve a disk, and end in good order."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from tests.support.guest import Guest
from tests.support.hmp_client import HmpClient
from tests.support.images import MIB, blank, filled
from tests.support.ports import free_port
from tests.support.processes import CHECKOUT
from tests.support.waiting import PATIENCE, eventually

UNITS = CHECKOUT / "docs" / "service"


def command(unit: str, folder: Path, port: int) -> list[str]:
    """What a unit starts as its instance ``web1``, with all that it names below ``folder``."""
    text = (UNITS / unit).read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    for name, value in (
        ("/srv/images", str(folder / unit.partition("@")[0])),
        ("%i", "web1"),
        ("%t", str(folder / "run")),
        ("%S", str(folder / "state")),
        ("4444", str(port)),
    ):
        line = line.replace(name, value)
    program, *options = shlex.split(line.removeprefix("ExecStart="))
    assert program == "/opt/qmon/bin/qmon"
    return [sys.executable, "-m", "qmon", *options]


def serves(socket: Path) -> bool:
    try:
        with Guest(socket, "d0"):
            return True
    except OSError:
        return False


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short name, for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="qmon-") as name:
        folder = Path(name)
        for part in ("qmon", "qmon-incoming", "run/qmon/web1", "state"):
            (folder / part).mkdir(parents=True)
        yield folder


def test_a_disk_moves_between_the_units_and_the_guest_follows(folder: Path) -> None:
    source = filled(folder / "qmon" / "web1.img", MIB)
    target = blank(folder / "qmon-incoming" / "web1.img", MIB)
    port = free_port()
    there = folder / "there"
    with ExitStack() as stack:

        def start(unit: str, runtime: Path) -> tuple[Popen[bytes], Path]:
            line = [
                word.replace(str(folder / "run"), str(runtime)).replace(
                    str(folder / "state"), str(runtime / "state")
                )
                for word in command(unit, folder, port)
            ]
            sockets = runtime / "qmon" / "web1"
            sockets.mkdir(parents=True, exist_ok=True)
            process = Popen(line, cwd=CHECKOUT, stdin=DEVNULL, stdout=DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            eventually(lambda: serves(sockets / "nbd.sock"), f"{unit} serves")
            return process, sockets

        arriving, at_target = start("qmon-incoming@.service", there)
        serving, at_source = start("qmon@.service", folder / "run")
        with Guest(at_source / "nbd.sock", "d0") as guest:
            guest.write(0, b"\x07" * 512)
        with HmpClient(at_source / "monitor.sock") as monitor:
            monitor.command(f"migrate blk tcp:127.0.0.1:{port}")
            assert "completed" in monitor.command("info migrate")
        with Guest(at_target / "nbd.sock", "d0") as guest:
            assert guest.read(0, 512) == b"\x07" * 512
        for process in (serving, arriving):
            process.terminate()
            assert process.wait(PATIENCE) == 0
    assert target.read_bytes() == source.read_bytes()
