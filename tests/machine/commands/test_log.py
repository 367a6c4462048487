"""The log that a monitor can move, and the trace events that tell it what happens."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from qmon.hmp.editing.completion import complete
from qmon.hmp.monitor import Monitor
from qmon.qmp.registry import Registry
from tests.support.images import blank, drive, filled
from tests.support.processes import Lab, migrated
from tests.support.waiting import eventually

SIZE = 1 << 20


def traced(path: Path, event: str) -> list[str]:
    """What a log tells of an event, each time after its name."""
    mark = f": {event} "
    return [line.partition(mark)[2] for line in path.read_text().splitlines() if mark in line]


def test_the_log_goes_where_a_line_sends_it(lab: Lab, tmp_path: Path) -> None:
    qmon = lab.start("qmon", "-D", str(tmp_path / "first.log"))
    qmon.quietly("log trace:handle_hmp_command", f"logfile {tmp_path}/%d.log", "info name")
    moved = tmp_path / f"{qmon.process.pid}.log"
    assert traced(tmp_path / "first.log", "handle_hmp_command") == [f"cmdline: logfile {tmp_path}/%d.log"]
    assert traced(moved, "handle_hmp_command") == ["cmdline: info name"]
    missing = tmp_path / "nosuch" / "log"
    failure = f"Error opening logfile {missing}: No such file or directory"
    assert qmon.command(f"logfile {missing}") == failure
    assert qmon.command("log unimp") == failure
    missing.parent.mkdir()
    qmon.quietly("log unimp", "info name")
    assert traced(moved, "handle_hmp_command")[-1] == "cmdline: log unimp"
    assert traced(missing, "handle_hmp_command") == ["cmdline: info name"]


def test_what_a_log_file_holds_stays(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    qmon = lab.start("qmon")
    qmon.quietly(f"logfile {path}", "log trace:handle_hmp_command", "info name")
    first, *others = path.read_text().splitlines()
    assert first == "before"
    assert others


def test_a_log_is_not_written_over_an_image_in_use(lab: Lab, tmp_path: Path) -> None:
    image, other = blank(tmp_path / "d0.img", SIZE), blank(tmp_path / "other.img", SIZE)
    second = tmp_path / "second.img"
    os.link(image, second)
    qmon = lab.start("qmon", *drive(image))
    lab.start("another", *drive(other))
    for path in (image, second, other):
        refused = f"Error opening logfile {path}: it is a disk image in use"
        assert qmon.command(f"logfile {path}") == refused
        assert path.stat().st_size == SIZE


def test_an_image_that_a_migration_will_bring_is_not_written_over(lab: Lab, tmp_path: Path) -> None:
    image = blank(tmp_path / "d0.img", SIZE)
    qmon = lab.start("qmon", *drive(image), "-incoming", "defer")
    assert "disk image in use" in qmon.command(f"logfile {image}")
    assert image.stat().st_size == SIZE


def test_trace_events_tell_what_happens(lab: Lab, tmp_path: Path) -> None:
    qmon = lab.start("qmon", *drive(blank(tmp_path / "d0.img", SIZE)), "-D", str(tmp_path / "log"))
    log = tmp_path / "log"
    qmon.quietly("trace-event qmp_enter_query_name on", "trace-event *_q?p_* on", "trace-event monitor_* on")
    qmon.qmp("query-name")
    assert traced(log, "qmp_enter_query_name") == ["{}"]
    assert traced(log, "handle_qmp_command")[-1].endswith("req={'execute': 'query-name'}")
    assert traced(log, "monitor_qmp_respond")[-1] == "resp={'return': {}}"
    qmon.quietly("stop")
    assert "event=STOP data={}" in traced(log, "monitor_protocol_event_emit")
    qmon.quietly("trace-event * off", "info name")
    before = log.read_text()
    qmon.quietly("cont", "info name")
    assert log.read_text() == before


def test_requests_of_guests_and_migrations_are_traced(lab: Lab, tmp_path: Path) -> None:
    log = tmp_path / "log"
    source, target, uri = lab.pair(
        [*drive(filled(tmp_path / "source.img", 2 * SIZE)), "-D", str(log)],
        drive(blank(tmp_path / "target.img", 2 * SIZE)),
    )
    source.quietly("trace-event nbd_* on", "trace-event migrate_set_state on")
    source.export("d0")
    target.export("d0")
    with source.guest() as guest:
        guest.write(4096, b"x" * 512)
        guest.write(0, b"x" * 2 * SIZE)
    (success,) = traced(log, "nbd_negotiate_success")
    assert success.endswith("export=d0")
    requests = [re.sub(r"cookie=\S+", "cookie=N", request) for request in traced(log, "nbd_receive_request")]
    assert requests[:2] == [
        "export=d0 cookie=N type=1 flags=0x0 offset=0x1000 len=512",
        "export=d0 cookie=N type=1 flags=0x0 offset=0x0 len=2097152",
    ]
    migrated(source, target, f"migrate -d -b {uri}")
    eventually(lambda: "status=completed" in traced(log, "migrate_set_state"), "the end is logged")
    states = [state.removeprefix("status=") for state in traced(log, "migrate_set_state")]
    assert states == ["setup", "active", "device", "completed"]


def test_every_event_that_is_listed_can_be_switched(lab: Lab) -> None:
    qmon = lab.start("qmon")
    qmon.quietly("trace-event * on")
    listed = qmon.command("info trace-events").splitlines()
    assert len(listed) > 100
    assert all(line.endswith(" : state 1") for line in listed)
    assert [f"{name} : state 1" for name in qmon.command("log trace:help").splitlines()] == listed
    qmon.quietly("trace-event * off")
    assert all(line.endswith(" : state 0") for line in qmon.command("info trace-events").splitlines())


def test_what_the_log_can_not_hold_is_told_once(lab: Lab) -> None:
    qmon = lab.start("qmon")
    qmon.quietly("log trace:handle_hmp_command", "logfile /dev/full", "info name", "info name")
    qmon.quietly("trace-event * off")
    assert qmon.log().count("can't write the log /dev/full: No space left on device") == 1


def test_names_of_events_are_completed() -> None:
    async def completions(text: str) -> list[str]:
        registry = Registry()
        registry.add("trace-event-get-state", get_state)
        return [each.text for each in await complete(Monitor(registry), text)]

    async def get_state(name: str) -> list[dict[str, str]]:
        assert name == "*"
        return [{"name": each, "state": "disabled"} for each in ("nbd_two", "nbd_one", "other")]

    assert asyncio.run(completions("trace-event nbd")) == ["nbd_one", "nbd_two"]
    assert asyncio.run(completions("info trace-events o")) == ["other"]
    assert asyncio.run(completions("trace-event nbd_one o")) == ["off", "on"]


def test_a_pipe_that_nobody_reads_is_no_log(lab: Lab, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    qmon = lab.start("qmon")
    said = qmon.command(f"logfile {tmp_path}/pipe")
    assert said == f"Error opening logfile {tmp_path}/pipe: No such device or address"
