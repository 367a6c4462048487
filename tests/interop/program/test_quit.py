"""qmon is ended while a migration is under way: a person is asked, and whoever is not is not kept waiting."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from tests.support.guest import Guest
from tests.support.images import MIB, blank, drive, filled, noise
from tests.support.processes import CHECKOUT, Lab, Qmon
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE, eventually

SIZE = 4 * MIB


def partly_there(target: Qmon) -> None:
    target.wait_migration("active")
    eventually(lambda: target.kbytes("transferred disk"), "a part of the disk is there")


@pytest.mark.parametrize("how", ["quit", "signal"])
def test_at_a_terminal_it_is_asked_first_and_the_destination_waits_for_the_next(
    lab: Lab, tmp_path: Path, how: str
) -> None:
    uri = f"unix:{tmp_path / 'migrate.sock'}"
    target = lab.start("target", *drive(blank(tmp_path / "target.img", SIZE)), "-incoming", uri)
    image = filled(tmp_path / "source.img", SIZE)
    terminal = Terminal(tmp_path / "tmux", 200, XDG_STATE_HOME=str(tmp_path))
    try:
        pid = tmp_path / "source.pid"
        command = [sys.executable, "-m", "qmon", *drive(image), "-pidfile", str(pid)]
        terminal.type(f"clear; cd {CHECKOUT}; {shlex.join(command)}\r")
        terminal.wait_for(r"^\(qemu\) $")
        terminal.type(f"migrate_set_parameter max-bandwidth 100k\rmigrate -d blk {uri}\r")
        partly_there(target)
        if how == "quit":
            terminal.wait_for(r"sock\n\(qemu\) $")
            terminal.type("quit\r")
        else:
            os.kill(int(pid.read_text()), signal.SIGINT)
        terminal.wait_for(r"^A migration is under way and .*\nQuit anyway\? \(y/n\)$")
        assert target.migration() == "active"
        terminal.press("y")
        terminal.wait_for_end("$ ")
    finally:
        terminal.close()
    assert target.wait_migration("failed").endswith("the images here are partial)")
    assert image.read_bytes() == noise(SIZE)


def test_the_clients_of_exports_are_named_before_they_are_cut_off(lab: Lab, tmp_path: Path) -> None:
    nbd = tmp_path / "nbd"
    terminal = Terminal(tmp_path / "tmux", 200, XDG_STATE_HOME=str(tmp_path))
    try:
        command = [sys.executable, "-m", "qmon", *drive(filled(tmp_path / "source.img", SIZE))]
        terminal.type(f"clear; cd {CHECKOUT}; {shlex.join(command)}\r")
        terminal.wait_for(r"^\(qemu\) $")
        terminal.type(f"nbd_server_start unix:{nbd}\rnbd_server_add -w d0\r")
        terminal.wait_for(r"^\(qemu\) nbd_server_add -w d0\n\(qemu\) $")
        with Guest(nbd, "d0") as guest:
            terminal.wait_for(r"connected to export")
            terminal.press("C-d")
            terminal.wait_for(r"^1 NBD client uses export 'd0'\nQuit anyway\? \(y/n\)$")
            terminal.press("n")
            terminal.wait_for(r"^qmon keeps running\n\(qemu\) $")
            assert guest.read(0, 512) == noise(SIZE)[:512]
        terminal.wait_for(r"disconnected from export")
        terminal.press("C-d")
        terminal.wait_for_end("(qemu) quit\n$ ")
    finally:
        terminal.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_a_signal_cancels_and_ends_at_once(lab: Lab, number: signal.Signals) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth="100k")
    source.quietly(f"migrate -d blk {uri}")
    partly_there(target)
    source.process.send_signal(number)
    assert source.process.wait(PATIENCE) == 0
    assert target.wait_migration("failed").endswith("the images here are partial)")
    assert target.status() == "paused (inmigrate)"
