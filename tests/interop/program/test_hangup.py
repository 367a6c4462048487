"""A terminal is taken away, or SIGHUP comes: nothing ends that others still use."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.guest import Guest
from tests.support.hmp_client import HmpClient
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.processes import Lab, gone
from tests.support.seat import Seat
from tests.support.waiting import eventually

SIZE = 4 * MIB


def hang_up(seat: Seat) -> None:
    seat.hang_up()


def send_signal(seat: Seat) -> None:
    os.kill(seat.pid, signal.SIGHUP)


both_ways = pytest.mark.parametrize("how", [hang_up, send_signal], ids=["terminal", "signal"])


@both_ways
def test_with_nothing_to_cut_off_it_ends_in_good_order(
    seat: Seat, tmp_path: Path, how: Callable[[Seat], None]
) -> None:
    seat.start(*drive(filled(tmp_path / "a", SIZE)), "-incoming", f"unix:{tmp_path / 'in'}")
    seat.prompt()
    how(seat)
    eventually(lambda: seat.has_ended_well, "it has ended")
    assert not (tmp_path / "in").exists()


@both_ways
def test_a_client_is_served_on_without_the_terminal(
    seat: Seat, tmp_path: Path, how: Callable[[Seat], None]
) -> None:
    nbd = tmp_path / "nbd"
    seat.start(*drive(filled(tmp_path / "a", SIZE)))
    seat.prompt()
    seat.terminal.type(f"nbd_server_start unix:{nbd}\rnbd_server_add -w d0\r")
    seat.terminal.wait_for(r"^\(qemu\) nbd_server_add -w d0\n\(qemu\) $")
    with Guest(nbd, "d0") as guest:
        seat.terminal.wait_for(r"connected to export")
        how(seat)
        seat.wait_log("hangup: qmon keeps running without a terminal: 1 NBD client uses export 'd0'")
        if how is send_signal:
            seat.terminal.press("Enter")  # whoever still sits there gets nothing for it
        before = seat.cpu_seconds()
        time.sleep(0.5)
        assert seat.cpu_seconds() - before < 0.25
        guest.write(0, b"x" * 512)
        assert guest.read(512, 512) == noise(SIZE)[512:1024]
    with Guest(nbd, "d0") as guest:
        assert guest.read(0, 512) == b"x" * 512
    assert "Traceback" not in seat.log.read_text()
    seat.end()
    assert (tmp_path / "a").read_bytes()[:512] == b"x" * 512


def test_a_hangup_when_the_last_client_has_left_ends_it(seat: Seat, tmp_path: Path) -> None:
    nbd = tmp_path / "nbd"
    seat.start(*drive(filled(tmp_path / "a", SIZE)))
    seat.prompt()
    seat.terminal.type(f"nbd_server_start unix:{nbd}\rnbd_server_add -w d0\r")
    seat.terminal.wait_for(r"^\(qemu\) nbd_server_add -w d0\n\(qemu\) $")
    with Guest(nbd, "d0"):
        seat.terminal.wait_for(r"connected to export")
        seat.hang_up()
        seat.wait_log("hangup")
    assert not gone(seat.pid)

    def ends() -> bool:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            send_signal(seat)  # again until the server has seen that the client has left
        return seat.has_ended_well

    eventually(ends, "it has ended")


@pytest.mark.parametrize("detached", [True, False], ids=["background", "watched"])
@both_ways
def test_a_migration_out_goes_on_to_its_end(
    lab: Lab, seat: Seat, how: Callable[[Seat], None], detached: bool
) -> None:
    uri = f"unix:{lab.folder / 'in'}"
    target = lab.start("target", *drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    seat.start(*drive(filled(lab.folder / "a", SIZE)))
    seat.prompt()
    with target.held("write"):
        seat.terminal.type(f"migrate {'-d ' * detached}blk {uri}\r")
        target.wait_migration("active")
        how(seat)
        seat.wait_log("hangup: qmon keeps running without a terminal: a migration is under way")
    target.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "a", lab.folder / "b")
    assert not gone(seat.pid)
    seat.end()


def test_a_migration_in_goes_on_to_its_end(lab: Lab, seat: Seat) -> None:
    uri = f"unix:{lab.folder / 'in'}"
    seat.start(*drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    seat.prompt()
    source = lab.start("source", *drive(filled(lab.folder / "a", SIZE)))
    source.quietly("migrate_set_parameter max-bandwidth 100k", f"migrate -d blk {uri}")
    source.wait_migration("active")
    seat.hang_up()
    seat.wait_log("hangup: qmon keeps running without a terminal: a migration is under way")
    source.quietly("migrate_set_parameter max-bandwidth 1G")
    source.wait_migration("completed")
    assert same(lab.folder / "a", lab.folder / "b")
    seat.end()


def test_a_script_at_a_terminal_goes_on_with_its_migration(lab: Lab, seat: Seat) -> None:
    uri = f"unix:{lab.folder / 'in'}"
    target = lab.start("target", *drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    options = drive(filled(lab.folder / "a", SIZE))
    with target.held("write"):
        seat.start(*options, "-c", f"migrate blk {uri}")
        target.wait_migration("active")
        seat.hang_up()
        seat.wait_log("hangup: qmon keeps running without a terminal: a migration is under way")
    target.wait_migration("completed")
    assert same(lab.folder / "a", lab.folder / "b")
    assert not gone(seat.pid)
    seat.end()


def test_pasted_lines_that_are_left_are_told_to_the_log(lab: Lab, seat: Seat) -> None:
    uri = f"unix:{lab.folder / 'in'}"
    target = lab.start("target", *drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    seat.start(*drive(filled(lab.folder / "a", SIZE)))
    seat.prompt()
    with target.held("write"):
        seat.terminal.paste(f"info status\nmigrate blk {uri}\nstop\ncont\n")
        target.wait_migration("active")
        seat.hang_up()
        seat.wait_log("the terminal has gone: 2 waiting lines were not run")
    target.wait_migration("completed")
    seat.end()


def test_a_pasted_text_that_is_asked_about_is_told_to_the_log(seat: Seat, lab: Lab) -> None:
    seat.start("-monitor", "stdio", "-monitor", f"unix:{lab.folder / 'monitor'},server,nowait")
    seat.prompt()
    seat.terminal.paste("> stop\n> cont\n")
    seat.terminal.wait_for(r"^Run them\? \(y/n\)")
    seat.hang_up()
    seat.wait_log("the terminal has gone: 2 waiting lines were not run")
    seat.end()


@both_ways
def test_another_monitor_keeps_it(seat: Seat, lab: Lab, how: Callable[[Seat], None]) -> None:
    path = lab.folder / "monitor"
    seat.start("-monitor", "stdio", "-monitor", f"unix:{path},server,nowait")
    seat.prompt()
    how(seat)
    seat.wait_log("hangup: qmon keeps running without a terminal: another monitor is there")
    with HmpClient(path) as monitor:
        assert monitor.command("info status") == "VM status: running"
    seat.end()


def test_a_machine_protocol_on_the_terminal_itself_goes_with_it(seat: Seat) -> None:
    seat.start("-qmp", "stdio")
    seat.hang_up()
    eventually(lambda: seat.has_ended_well, "it has ended")


def test_what_has_no_terminal_goes_on_too(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    with target.held("write"):
        source.quietly(f"migrate -d blk {uri}")
        target.wait_migration("active")
        for each in (source, target):
            each.process.send_signal(signal.SIGHUP)
            each.wait_log(
                "qmon: hangup: qmon keeps running without a terminal: a migration is under way,"
                " another monitor"
            )
    source.wait_migration("completed")
    target.wait_status("running")


def test_nohup_is_obeyed(seat: Seat, tmp_path: Path) -> None:
    seat.start("-monitor", "none", before="nohup", behind=f">{tmp_path / 'out'} 2>&1")
    send_signal(seat)
    seat.hang_up()
    time.sleep(0.5)
    assert not gone(seat.pid)
    seat.end()
