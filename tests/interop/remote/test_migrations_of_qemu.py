"""What qmon adds to a running QEMU's migrations: it waits, shows progress, tells reasons; and to cpu."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.support.connections import connected_monitor
from tests.support.fake_target import FakePerson
from tests.support.peer import Peer, two_drives
from tests.support.processes import QMON
from tests.support.runs import Done, run
from tests.support.terminal import Terminal

SAME = ["-M", "pc", "-m", "16", "-accel", "tcg"]


def on(qemu: Peer, *lines: str) -> Done:
    given = [word for line in lines for word in ("-c", line)]
    return run("-connect", f"unix:{qemu.qmp_path}", "-keep-going", *given, cwd=qemu.folder)


def test_migrate_is_waited_for_and_its_failure_has_a_reason(program: Sequence[str], tmp_path: Path) -> None:
    with Peer(program, tmp_path / "source", options=SAME) as source:
        done = on(source, "migrate tcp:127.0.0.1:1", "migrate -d tcp:127.0.0.1:1", "wait migrate", "migrate")
        assert done.stdout == ""
        assert "terminal does not allow" not in done.stderr
        reasons = [line for line in done.stderr.splitlines() if "failed:" not in line]
        assert reasons[4].startswith("-c:4: Usage: migrate [-n] [-d] [-b|blk] [-i|inc] ")
        assert all("Connection refused" in reasons[number] for number in (0, 1))
        assert reasons[2:4] == [
            "-c:4: migrate: string expected",
            '-c:4: Try "help migrate" for more information',
        ]
        assert "lines failed" in reasons[-1]


def test_a_migration_completes_before_the_next_line_runs(program: Sequence[str], tmp_path: Path) -> None:
    incoming = [*SAME, "-incoming", f"unix:{tmp_path / 'stream'}"]
    with (
        Peer(program, tmp_path / "source", two_drives, options=SAME) as source,
        Peer(program, tmp_path / "destination", two_drives, options=incoming),
    ):
        done = on(source, f"migrate unix:{tmp_path / 'stream'}", "info status")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == "VM status: paused (postmigrate)"


def test_a_script_is_warned_that_no_disk_is_copied(program: Sequence[str], tmp_path: Path) -> None:
    options = [*SAME, "-device", "virtio-blk,drive=d0"]
    with Peer(program, tmp_path / "source", two_drives, options=options) as source:
        done = on(source, "migrate tcp:127.0.0.1:1")
        warning, failure = done.stderr.splitlines()[:2]
        assert warning.startswith("-c:1: warning: No disk is copied: ")
        assert warning.endswith("'migrate blk tcp:127.0.0.1:1'")
        assert "Connection refused" in failure
        assert done.stdout == ""


def test_a_destination_without_a_console_is_said_to_need_one(program: Sequence[str], tmp_path: Path) -> None:
    options = [*SAME, "-device", "virtio-blk,drive=d0"]
    stream = f"unix:{tmp_path / 'stream'}"
    with (
        Peer(program, tmp_path / "source", two_drives, options=options) as source,
        Peer(program, tmp_path / "destination", two_drives, options=[*options, "-incoming", "defer"]) as bare,
    ):
        assert "warning: This waits for memory only" in on(bare, f"migrate_incoming {stream}").stderr
        done = on(source, f"migrate blk {stream}")
        way = f"-c:1: There a console must wait: 'qmon -connect unix:QMP -incoming {stream}' on a QEMU"
        assert way in done.stderr


def test_the_progress_is_that_of_the_memory(program: Sequence[str], tmp_path: Path) -> None:
    incoming = [*SAME, "-incoming", f"unix:{tmp_path / 'stream'}"]

    async def run_it(source: Peer) -> None:
        async with connected_monitor(f"unix:{source.qmp_path}") as (_, monitor):
            person = FakePerson()
            assert await monitor.run_line("migrate_set_parameter max-bandwidth 32K", person)
            moving = asyncio.create_task(monitor.run_line(f"migrate unix:{tmp_path / 'stream'}", person))
            await person.shown.updated.wait()
            assert await monitor.run_line("migrate_cancel", person)
            await moving
            done, total = person.shown.updates[0]
            assert 0 <= done <= total
            assert total > 16 << 20

    with (
        Peer(program, tmp_path / "source", two_drives, options=SAME) as source,
        Peer(program, tmp_path / "destination", two_drives, options=incoming),
    ):
        asyncio.run(run_it(source))


def test_the_chosen_cpu_is_kept(program: Sequence[str], tmp_path: Path) -> None:
    with Peer(program, tmp_path / "qemu", options=["-M", "pc", "-m", "16", "-smp", "2", "-S"]) as qemu:
        done = on(qemu, "cpu 1", "info cpus", "cpu 7", "info cpus")
        rows = [line.split(":")[0] for line in done.stdout.splitlines()]
        assert rows == ["  CPU #0", "* CPU #1"] * 2
        assert "-c:3: invalid CPU index" in done.stderr


def test_a_console_tells_of_the_end_although_qemu_sends_no_event(
    program: Sequence[str], tmp_path: Path
) -> None:
    incoming = [*SAME, "-incoming", f"unix:{tmp_path / 'stream'}"]
    terminal = Terminal(tmp_path / "tmux", 220, XDG_STATE_HOME=str(tmp_path))
    with (
        Peer(program, tmp_path / "source", two_drives, options=SAME) as source,
        Peer(program, tmp_path / "destination", two_drives, options=incoming),
    ):
        try:
            terminal.type(f"clear; {QMON[0]} -m qmon -connect unix:{source.qmp_path}\r")
            terminal.wait_for(r"^\(qemu qmp\)$")
            terminal.type("migrate_set_capability pause-before-switchover on\r")
            terminal.type(f"migrate -d unix:{tmp_path / 'stream'}\r")
            terminal.wait_whole(
                lambda screen: "| migration pre-switchover" in screen, "the state below the prompt"
            )
            terminal.type("migrate_continue pre-switchover\r")
            terminal.wait_for(r"^Migration completed")
        finally:
            terminal.close()
