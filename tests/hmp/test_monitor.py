from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.monitor import Monitor
from qmon.qmp.registry import Registry
from tests.support.fake_target import (
    NODE,
    FakeMachine,
    FakePerson,
    Hinted,
    one_command,
)


class Desk:
    """A monitor on a fake machine with somebody in front of it."""

    def __init__(self, **person: bool) -> None:
        self.machine = FakeMachine()
        self.monitor = Monitor(self.machine.registry)
        self.person = FakePerson(**person)

    def run(self, line: str) -> tuple[bool, str]:
        self.person.history.append(line)
        good = asyncio.run(self.monitor.run_line(line, self.person))
        return good, self.person.said()

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        calls = list(self.machine.calls)
        self.machine.calls.clear()
        return calls


def test_stop_and_cont_change_what_info_status_says() -> None:
    desk = Desk()
    assert desk.run("info status") == (True, "VM status: running")
    assert desk.run("s") == (True, "")
    assert desk.run("info status") == (True, "VM status: paused")
    assert desk.run("cont") == (True, "")
    assert desk.run(" info  status ") == (True, "VM status: running")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"running": False, "status": "inmigrate"}, "VM status: paused (inmigrate)"),
        ({"running": True, "status": "running", "singlestep": True}, "VM status: running (single step mode)"),
    ],
)
def test_info_status_names_an_unusual_state(status: dict[str, Any], said: str) -> None:
    async def query_status() -> dict[str, Any]:
        return status

    desk = Desk()
    desk.machine.registry.add("query-status", query_status)
    assert desk.run("info status") == (True, said)


def test_info_says_version_name_and_uuid() -> None:
    desk = Desk()
    assert desk.run("info version") == (True, "7.2.22Debian")
    assert desk.run("info name") == (True, "web1")
    assert desk.run("info uuid") == (True, "00000000-0000-0000-0000-000000000000")


def test_info_history_numbers_the_lines_with_itself_last() -> None:
    desk = Desk()
    desk.run("info name")
    assert desk.run("info history") == (True, "0: 'info name'\n1: 'info history'")


D0 = """\
d0 (#block001): d0.img (raw)
    Removable device: not locked, tray closed
    Cache mode:       writeback"""

D1 = """\
d1 (#block002): d1.qcow2 (qcow2, read-only)
    Attached to:      /machine/d1
    Cache mode:       writethrough, direct, ignore flushes
    Backing file:     base.img (chain depth: 1)
    Detect zeroes:    on"""

D1_IMAGES = """\

Images:
image: d1.qcow2
file format: qcow2
virtual size: 0.977 MiB (1024000 bytes)
disk size: 196 KiB
cluster_size: 65536
backing file: base.img
backing file format: raw
Format specific information:
    compat: 1.1
    lazy refcounts: false
image: base.img
file format: raw
virtual size: 0.977 MiB (1024000 bytes)
disk size: 16 MiB"""


def second_block() -> dict[str, Any]:
    base = {"filename": "base.img", "format": "raw", "virtual-size": 1024000, "actual-size": 16 << 20}
    image = {
        "filename": "d1.qcow2",
        "format": "qcow2",
        "virtual-size": 1024000,
        "actual-size": 196 << 10,
        "cluster-size": 65536,
        "backing-filename": "base.img",
        "full-backing-filename": "base.img",
        "backing-filename-format": "raw",
        "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "lazy-refcounts": False}},
        "backing-image": base,
    }
    node = {
        **NODE,
        "node-name": "#block002",
        "file": "d1.qcow2",
        "drv": "qcow2",
        "ro": True,
        "cache": {"writeback": False, "direct": True, "no-flush": True},
        "backing_file": "base.img",
        "backing_file_depth": 1,
        "detect_zeroes": "on",
        "image": image,
    }
    return {"device": "d1", "qdev": "/machine/d1", "removable": False, "locked": False, "inserted": node}


def test_info_block_lists_drives_as_qemu_lays_them_out() -> None:
    desk = Desk()
    desk.machine.blocks.append(second_block())
    assert desk.run("info block") == (True, f"{D0}\n\n{D1}")
    assert desk.run("info block d0") == (True, D0)
    assert desk.run("info block nosuch") == (True, "")
    desk.machine.blocks.append({"device": "cd", "removable": True, "locked": True, "tray_open": True})
    assert desk.run("info block cd")[1].strip() == (
        "cd: [not inserted]\n    Removable device: locked, tray open"
    )


def test_info_block_v_shows_every_image_of_the_chain() -> None:
    desk = Desk()
    desk.machine.blocks = [second_block()]
    said = desk.run("info block -v")[1]
    assert said == f"{D1}\n{D1_IMAGES}"


def test_info_block_n_lists_nodes() -> None:
    async def query_nodes() -> list[dict[str, Any]]:
        return [NODE, {**NODE, "node-name": "#block002", "drv": "file"}]

    desk = Desk()
    desk.machine.registry.add("query-named-block-nodes", query_nodes)
    cache = "    Cache mode:       writeback"
    assert desk.run("info block -n") == (
        True,
        f"#block001: d0.img (raw)\n{cache}\n\n#block002: d0.img (file)\n{cache}",
    )
    desk.person.comments = False
    assert desk.run("info block #block001") == (True, f"#block001: d0.img (raw)\n{cache}")


def test_drive_add_opens_an_image_and_says_ok() -> None:
    desk = Desk()
    assert desk.run("drive_add 0 if=none,id=d2,file=a,,b.img,format=raw,readonly=on") == (True, "OK")
    (call,) = desk.calls()
    assert call == ("x-qmon-drive-add", {"id": "d2", "file": "a,b.img", "format": "raw", "readonly": True})
    assert desk.run("drive_add 0 if=none,file=x.img,format=raw") == (True, "OK")
    assert "id" not in desk.calls()[0][1]


@pytest.mark.parametrize("word", ["format=help", "if=none,file=a.img,format=?", "driver=help"])
def test_drive_add_lists_the_formats(word: str) -> None:
    desk = Desk()
    formats = "Supported formats: qcow2 raw\nSupported formats (read-only): qcow2 raw"
    assert desk.run(f"drive_add 0 {word}") == (True, formats)
    assert desk.calls() == []


def test_errors_of_drives_are_printed_bare_as_qemu_prints_them() -> None:
    desk = Desk()
    assert desk.run("drive_add 0 if=none,id=d0,file=x,format=raw") == (False, "Duplicate ID 'd0' for drive")
    assert desk.run("drive_add 0 if=nosuch,file=x") == (False, "unsupported bus type 'nosuch'")
    assert desk.run("drive_del nosuch") == (False, "Device 'nosuch' not found")
    assert desk.run("drive_del d0") == (True, "")


def test_the_nbd_server_starts_where_the_line_says() -> None:
    desk = Desk()
    assert desk.run("nbd_server_start unix:/tmp/n.sock") == (True, "")
    assert desk.run("nbd_server_start tcp:localhost:10809") == (True, "")
    unix = {"type": "unix", "data": {"path": "/tmp/n.sock"}}
    inet = {"type": "inet", "data": {"host": "localhost", "port": "10809"}}
    assert desk.calls() == [("nbd-server-start", {"addr": unix}), ("nbd-server-start", {"addr": inet})]
    assert desk.run("nbd_server_start -w unix:x") == (False, "Error: -w only valid together with -a")
    assert desk.run("nbd_server_start foo") == (False, "Error: error parsing address 'foo'")


def test_all_drives_are_exported_or_the_server_stops_again() -> None:
    desk = Desk()
    desk.machine.blocks.append({"device": "empty", "removable": True})
    assert desk.run("nbd_server_start -w -a unix:x") == (True, "")
    assert desk.calls()[1:] == [("nbd-server-add", {"device": "d0", "writable": True})]
    desk.machine.blocks.append({"device": "bad", "inserted": NODE})
    said = "Error: Cannot find device='bad' nor node-name='bad'"
    assert desk.run("nbd_server_start -a unix:x") == (False, said)
    assert desk.calls()[-1] == ("nbd-server-stop", {})


def test_exports_come_and_go() -> None:
    desk = Desk()
    for line in ("nbd_server_add -w d0", "nbd_server_add d0 e", "nbd_server_remove e"):
        assert desk.run(line) == (True, "")
    assert desk.run("nbd_server_remove -f e") == (True, "")
    assert desk.calls() == [
        ("nbd-server-add", {"device": "d0", "writable": True}),
        ("nbd-server-add", {"device": "d0", "name": "e", "writable": False}),
        ("nbd-server-remove", {"name": "e", "mode": "safe"}),
        ("nbd-server-remove", {"name": "e", "mode": "hard"}),
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("migrate_set_parameter max-bandwidth 100", {"max-bandwidth": 100 << 20}),
        ("migrate_set_parameter max-bandwidth 1.5G", {"max-bandwidth": 3 << 29}),
        ("migrate_set_parameter downtime-limit 50", {"downtime-limit": 50}),
        ("migrate_set_speed 10", {"max-bandwidth": 10 << 20}),
        ("migrate_set_speed 64k", {"max-bandwidth": 64 << 10}),
        ("migrate_set_downtime 1", {"downtime-limit": 1000}),
        ("migrate_set_downtime 30ms", {"downtime-limit": 30}),
        ("migrate_set_downtime 0.25", {"downtime-limit": 250}),
    ],
)
def test_parameters_are_set_in_qmps_units(line: str, value: dict[str, int]) -> None:
    desk = Desk()
    assert desk.run(line) == (True, "")
    assert desk.calls() == [("migrate-set-parameters", value)]


def test_info_migrate_parameters_shows_what_the_target_has() -> None:
    assert Desk().run("info migrate_parameters") == (
        True,
        "tls-creds: ''\nmax-bandwidth: 134217728 bytes/second\ndowntime-limit: 300 ms",
    )


def test_help_lists_all_commands_or_one() -> None:
    desk = Desk(interactive=False)
    good, text = desk.run("help")
    lines = [line for line in text.split("\n") if not line.startswith(("\t", "["))]
    assert good
    assert lines == sorted(lines, key=lambda line: line.split()[0])
    assert any(line.startswith("quit|q  -- ") for line in lines)
    assert desk.run("help info block")[1].startswith("info block [-n] [-v] [device] -- ")
    assert desk.run("info") == desk.run("? info")
    assert desk.run("help foo bar") == (False, "unknown command: 'foo'")
    assert desk.run("help info foo bar") == (False, "unknown command: 'info foo'")


def test_a_line_that_can_not_be_read_says_where_help_is() -> None:
    desk = Desk()
    assert desk.run("foo bar") == (False, "unknown command: 'foo'")
    assert desk.run("info foo bar") == (False, "unknown command: 'info foo'")
    said = 'quit|q: extraneous characters at the end of line\nTry "help q" for more information'
    assert desk.run("q now") == (False, said)
    said = 'block: unsupported option -x\nTry "help info block" for more information'
    assert desk.run("info block -x") == (False, said)
    # the letter that QEMU names is the NUL at the end of the line, and ends the message
    said = 'block: unsupported option -Try "help info block" for more information'
    assert desk.run("info block -n -") == (False, said)


def hints_of(line: str) -> list[str]:
    person = Hinted()
    assert not asyncio.run(Monitor(FakeMachine().registry).run_line(line, person))
    return person.hints


def test_a_missing_argument_is_followed_by_the_usage() -> None:
    usage = ["Usage: migrate [-n] [-d] [-b|blk] [-i|inc] [-r] uri", "  uri is the destination's address:"]
    assert hints_of("migrate -d")[:2] == usage
    assert hints_of("block_resize") == ["Usage: block_resize device size"]
    assert "    drive_add 0 file=PATH,format=raw,id=NAME" in hints_of("drive_add 0")
    for line in ("block_resize d0 1 2", "migrate -x tcp:h:1", 'migrate "tcp', "nosuch"):
        assert hints_of(line) == []


def test_a_command_that_only_qmp_has_is_told_so_below_the_error() -> None:
    assert Desk().run("query-status") == (False, "unknown command: 'query-status'")
    assert hints_of("query-status") == ["a QMP command: 'qmp query-status {...}'"]
    mapping = """by QMP: 'qmp migrate-set-parameters {"block-bitmap-mapping": [...]}'"""
    assert hints_of("migrate_set_parameter block-bitmap-mapping x") == [mapping]
    assert hints_of("query-nosuch") == hints_of("info query-status") == []


def test_an_image_without_its_key_is_told_the_key() -> None:
    def hints(options: str) -> list[str]:
        return hints_of(f"drive_add 0 {options}")

    assert hints("web.img") == hints("id=w,web.img") == ["Write file=web.img"]
    assert hints("file=nosuch,id=w,web.img") == hints("readonly") == []


def test_comments_are_for_terminals_and_scripts_only() -> None:
    assert Desk().run("info name # which?") == (True, "web1")
    assert Desk().run("# nothing") == (True, "")
    assert Desk(comments=False).run("# nothing") == (False, "unknown command: '#'")
    assert not Desk(comments=False).run("info name # which?")[0]


def test_quit_tells_who_reads_lines_to_stop() -> None:
    desk = Desk()
    assert desk.run("quit x")[0] is False
    assert not desk.monitor.quitting
    assert desk.run("quit") == (True, "")
    assert desk.monitor.quitting
    assert desk.calls() == [("quit", {})]


def test_a_target_without_the_command_is_said_in_one_line() -> None:
    person = FakePerson()
    assert not asyncio.run(Monitor(Registry()).run_line("info status", person))
    assert person.said() == "info status: this target has no QMP command 'query-status'"


def test_a_failing_handler_gives_one_line_and_a_log_entry(caplog: pytest.LogCaptureFixture) -> None:
    async def query_name() -> None:
        return None

    desk = Desk()
    desk.machine.registry.add("query-name", query_name)
    with caplog.at_level(logging.ERROR):
        good, said = desk.run("info name")
    assert not good
    assert said.startswith("Error: internal error in 'info name' (TypeError")
    assert "\n" not in said
    assert "Traceback" in caplog.text


def test_a_command_that_nobody_handles_is_said_not_to_be_available() -> None:
    person = FakePerson()
    monitor = Monitor(Registry(), one_command("a:s?"))
    assert not asyncio.run(monitor.run_line("cmd", person))
    assert person.said() == 'Command "cmd" is not available.'


@given(
    line=st.text(st.characters(exclude_categories=[])) | st.text(st.sampled_from('info block-v"p/x(1+\\ #'))
)
def test_no_line_raises(line: str) -> None:
    person = FakePerson(comments=False)
    good = asyncio.run(Monitor(FakeMachine().registry).run_line(line, person))
    assert good or person.said()
