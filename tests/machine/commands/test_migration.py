"""The migration commands at the machine's edge: what is refused, what is told, and who runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmon.block.file import FileNode
from qmon.migration.capabilities import CAPABILITIES
from qmon.migration.parameters import PARAMETERS, ROWS
from qmon.migration.patience import PATIENCE as ORDINARY
from qmon.migration.patience import Patience
from qmon.migration.wire.answers import Type, encode
from qmon.migration.wire.stream import PREAMBLE, section_start
from qmon.migration.wire.writer import RecordWriter
from tests.support.embedded_lab import SIZE, EmbeddedLab, LabMachine, Play
from tests.support.locks_probe import locked_bytes
from tests.support.waiting import PATIENCE

DRIP = """
import socket, sys, time
path, file, pause_seconds = sys.argv[1:]
hello = open(file, "rb").read()
sock = socket.socket(socket.AF_UNIX)
sock.connect(path)
for position in range(len(hello)):
    try:
        sock.sendall(hello[position:position + 1])
    except OSError:
        sys.exit(0)
    resume = time.monotonic() + float(pause_seconds)
    while time.monotonic() < resume:
        pass
sys.exit("all of it was taken")
"""
"""Sends a file byte by byte, and succeeds when somebody has had enough of it."""

BUSY = "Node 'd0' is busy: block device is in use by migration"


@contextlib.contextmanager
def silent_destination(path: Path) -> Iterator[str]:
    """Somebody who takes what comes and never says a word; yields the way to it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield f"unix:{path}"


class TestRefusals:
    def test_without_drives(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.start()
            said = await machine.qmp_error("migrate", uri="tcp:127.0.0.1:1")
            assert said == "The machine has no drives to migrate: add one with drive_add"
            assert await machine.qmp("query-migrate") == {}
            assert machine.events == []

        play(scene)

    @pytest.mark.parametrize(
        ("uri", "said"),
        [
            ("nonsense", "Parameter 'uri' expects a valid migration protocol"),
            ("tcp:host", "error parsing address 'host'"),
            ("unix:", "invalid Unix socket address"),
            ("rdma:a:1", "Migration by 'rdma:' is not supported: use tcp:HOST:PORT or unix:PATH"),
        ],
    )
    def test_to_nowhere(self, play: Play, uri: str, said: str) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            assert await machine.qmp_error("migrate", uri=uri) == said
            assert await machine.status() == "running"
            waiting = await lab.start(incoming="defer")
            assert await waiting.qmp_error("migrate-incoming", uri=uri) == said
            assert await waiting.qmp("migrate-incoming", uri=f"unix:{lab.folder}/in") == {}

        play(scene)

    def test_a_second_one_while_the_first_is_under_way(self, play: Play, tmp_path: Path) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            with silent_destination(tmp_path / "silent") as uri:
                await machine.qmp("migrate", uri=uri, blk=True)
                assert (
                    await machine.qmp_error("migrate", uri=uri) == "There's a migration process in progress"
                )
                await machine.qmp("migrate_cancel")
                await machine.wait_migration("cancelled")
                assert await machine.qmp("migrate", uri=uri, blk=True) == {}

        play(scene)

    def test_changes_of_the_drives_meanwhile(self, play: Play, tmp_path: Path) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            new = str(lab.image("new.img"))
            with silent_destination(tmp_path / "silent") as uri:
                await machine.qmp("migrate", uri=uri, blk=True)
                assert await machine.qmp_error("x-qmon-drive-del", id="d0") == BUSY
                said = await machine.qmp_error("x-qmon-drive-add", id="d1", file=new)
                assert said == "drive 'd1' can't be added while a migration is under way"
                await machine.qmp("migrate_cancel")
                await machine.wait_migration("cancelled")
            assert await machine.qmp("x-qmon-drive-add", id="d1", file=new) == {"id": "d1"}
            assert await machine.qmp("x-qmon-drive-del", id="d0") == {}

        play(scene)

    def test_by_one_that_waits_for_a_migration_itself(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.start(lab.settings(lab.image("d0.img")), incoming="defer")
            assert await machine.status() == "inmigrate"
            said = await machine.qmp_error("migrate", uri="tcp:127.0.0.1:1")
            assert said == "Guest is waiting for an incoming migration"
            assert locked_bytes(lab.folder / "d0.img") == set()

        play(scene)

    def test_of_a_place_to_wait_at(self, play: Play, tmp_path: Path) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            said = await machine.qmp_error("migrate-incoming", uri="tcp:127.0.0.1:1")
            assert said == "'-incoming' was not specified on the command line"
            waiting = await lab.start(incoming="defer")
            said = await waiting.qmp_error("migrate-incoming", uri="unix:/no/such/folder/in")
            assert said == "Failed to bind socket to /no/such/folder/in: No such file or directory"
            await waiting.qmp("migrate-incoming", uri=f"unix:{tmp_path}/in")
            said = await waiting.qmp_error("migrate-incoming", uri=f"unix:{tmp_path}/in2")
            assert said == "The incoming migration has already been started"

        play(scene)

    def test_resuming_what_was_never_paused(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            said = await machine.qmp_error("migrate", uri="tcp:127.0.0.1:1", resume=True)
            assert said == "Cannot resume if there is no paused migration"

        play(scene)


class TestCourse:
    def test_a_disk_moves_and_only_the_other_side_runs(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, target, uri = await lab.pair()
            await source.qmp("migrate", uri=uri, blk=True)
            await source.wait_migration("completed")
            await target.wait_status("running")
            await source.wait_status("postmigrate")
            assert (lab.folder / "b.img").read_bytes() == b"data" * 1024 + bytes(SIZE - 4096)
            assert locked_bytes(lab.folder / "a.img") == set()
            assert locked_bytes(lab.folder / "b.img") == {100, 101, 201}
            assert source.told == ["setup", "active", "device", "STOP", "completed"] or source.told == [
                "setup",
                "active",
                "STOP",
                "device",
                "completed",
            ]
            assert target.told[0] == "setup"
            assert target.told[-2:] in (["completed", "RESUME"], ["RESUME", "completed"])
            said = await source.qmp_error("migrate", uri=uri)
            assert said == "Can't migrate the vm that was paused due to previous migration"
            assert "migration has moved the disks" in await source.qmp_error("cont")
            assert await source.status() == "postmigrate"
            assert await source.qmp("migrate_cancel") == {}
            assert await source.migration() == "completed"

        play(scene)

    @pytest.mark.parametrize("commands", [["stop"], ["stop", "cont"], ["cont", "stop"]])
    def test_a_machine_that_waits_can_be_told_to_stand_when_all_is_there(
        self, play: Play, commands: list[str]
    ) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, target, uri = await lab.pair()
            for command in commands:
                await target.qmp(command)
            assert await target.status() == "inmigrate"
            await source.qmp("migrate", uri=uri, blk=True)
            await target.wait_status("paused" if commands[-1] == "stop" else "running")

        play(scene)

    def test_a_machine_that_stood_stands_on_the_other_side(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, target, uri = await lab.pair()
            await source.qmp("stop")
            await source.qmp("migrate", uri=uri, blk=True)
            await source.wait_migration("completed")
            await target.wait_status("paused")
            await target.qmp("cont")
            assert await target.status() == "running"

        play(scene)

    def test_a_cancelled_one_leaves_the_source_as_it_was(self, play: Play, tmp_path: Path) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            with silent_destination(tmp_path / "silent") as uri:
                await machine.qmp("migrate", uri=uri, blk=True)
                assert await machine.migration() == "setup"
                await machine.qmp("migrate_cancel")
                await machine.wait_migration("cancelled")
            assert await machine.status() == "running"
            assert machine.told == ["setup", "cancelling", "cancelled"]
            assert locked_bytes(tmp_path / "d0.img") == {100, 101, 201}
            assert await machine.qmp("migrate_cancel") == {}
            assert await machine.migration() == "cancelled"

        play(scene)

    def test_one_that_fails_says_why_and_leaves_the_source_running(self, play: Play, tmp_path: Path) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            await machine.qmp("migrate", uri=f"unix:{tmp_path}/nobody", blk=True)
            await machine.wait_migration("failed")
            info = await machine.qmp("query-migrate")
            assert (
                info["error-desc"]
                == f"Failed to connect to 'unix:{tmp_path}/nobody': No such file or directory"
            )
            assert await machine.status() == "running"
            assert machine.told == ["setup", "failed"]

        play(scene)

    def test_a_destination_says_what_does_not_fit_and_waits_on(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, target, uri = await lab.pair()
            small = lab.folder / "small.img"
            small.write_bytes(bytes(512))
            other = await lab.start(lab.settings(small))
            await other.qmp("migrate", uri=uri, blk=True)
            await other.wait_migration("failed")
            said = (await other.qmp("query-migrate"))["error-desc"]
            assert said == (
                f"drive 'd0' has 512 bytes at the source and {SIZE} at the destination: they must be equal"
                ". There: end qmon, 'truncate -s 512 FILE' (qcow2: 'qemu-img resize'), start it again"
            )
            assert await target.status() == "inmigrate"
            await source.qmp("migrate", uri=uri, blk=True)
            await target.wait_status("running")

        play(scene)

    def test_a_source_can_be_closed_in_the_midst(self, play: Play, tmp_path: Path) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            with silent_destination(tmp_path / "silent") as uri:
                await machine.qmp("migrate", uri=uri, blk=True)
                await asyncio.wait_for(machine.close(), 10)
            assert locked_bytes(tmp_path / "d0.img") == set()

        play(scene)

    def test_the_place_to_wait_at_is_cleared_away(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.start(incoming=f"unix:{lab.folder}/in")
            assert (lab.folder / "in").is_socket()
            await machine.close()
            assert not (lab.folder / "in").exists()

        play(scene)


class TestParameters:
    def test_they_begin_with_their_defaults(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.start()
            shown = await machine.qmp("query-migrate-parameters")
            assert shown == {name: ROWS[name].default for name in shown}
            assert set(ROWS) - set(shown) == {
                "block-bitmap-mapping",
                *(r.name for r in PARAMETERS if r.later),
            }

        play(scene)

    def test_they_are_set_one_by_one_or_together(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            async def shown() -> dict[str, Any]:
                parameters = await machine.qmp("query-migrate-parameters")
                return {name: parameters[name] for name in ("max-bandwidth", "downtime-limit")}

            machine = await lab.start()
            await machine.qmp("migrate-set-parameters", max_bandwidth=1 << 20)
            await machine.qmp("migrate-set-parameters", downtime_limit=0)
            assert await shown() == {"max-bandwidth": 1 << 20, "downtime-limit": 0}
            await machine.qmp("migrate-set-parameters", max_bandwidth=0, downtime_limit=2_000_000)
            assert await shown() == {"max-bandwidth": 0, "downtime-limit": 2_000_000}

        play(scene)

    def test_of_a_bad_pair_neither_is_set(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.start()
            before = await machine.qmp("query-migrate-parameters")
            said = await machine.qmp_error(
                "migrate-set-parameters", max_bandwidth=5, downtime_limit=2_000_001
            )
            assert said == (
                "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms"
            )
            assert await machine.qmp("query-migrate-parameters") == before

        play(scene)

    def test_a_negative_bandwidth_is_out_of_range(self, play: Play) -> None:
        """QEMU takes -1 for the greatest there is: nobody can have meant that."""

        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.start()
            said = await machine.qmp_error("migrate-set-parameters", max_bandwidth=-1)
            assert said.startswith("Parameter 'max_bandwidth' expects an integer in the range of 0 to ")

        play(scene)

    def test_what_qemu_10_added_is_shown_once_it_is_set(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.start()
            before = await machine.qmp("query-migrate-parameters")
            await machine.qmp("migrate-set-parameters", avail_switchover_bandwidth=5, direct_io=False)
            after = await machine.qmp("query-migrate-parameters")
            assert after == {**before, "avail-switchover-bandwidth": 5}
            await turn(machine, "return-path", "switchover-ack")
            listed = [each["capability"] for each in await machine.qmp("query-migrate-capabilities")]
            assert listed[-2:] == ["postcopy-preempt", "switchover-ack"]

        play(scene)


async def turn(machine: LabMachine, *names: str, on: bool = True) -> None:
    """Turn capabilities on or off."""
    changes = [{"capability": name, "state": on} for name in names]
    await machine.qmp("migrate-set-capabilities", capabilities=changes)


class TestSettings:
    """What the settings do to a migration."""

    def test_block_means_what_the_flags_mean(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, target, uri = await lab.pair()
            await turn(source, "block")
            said = await source.qmp_error("migrate", uri=uri, blk=True)
            assert said == "Command options are incompatible with current migration capabilities"
            await source.qmp("migrate", uri=uri)
            await source.wait_migration("completed")
            await target.wait_status("running")
            assert (lab.folder / "b.img").read_bytes() == b"data" * 1024 + bytes(SIZE - 4096)
            assert {"state": True, "capability": "block"} in await source.qmp("query-migrate-capabilities")

        play(scene)

    def test_the_flags_are_seen_as_settings_while_the_migration_lasts(
        self, play: Play, tmp_path: Path
    ) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            async def seen() -> tuple[bool, bool]:
                states = {
                    each["capability"]: each["state"]
                    for each in await machine.qmp("query-migrate-capabilities")
                }
                return states["block"], (await machine.qmp("query-migrate-parameters"))["block-incremental"]

            machine = await lab.one()
            with silent_destination(tmp_path / "silent") as uri:
                await machine.qmp("migrate", uri=uri, inc=True)
                assert await seen() == (True, True)
                said = await machine.qmp_error("migrate-set-capabilities", capabilities=[])
                assert said == "There's a migration process in progress"
                await machine.qmp("migrate_cancel")
                await machine.wait_migration("cancelled")
            assert await seen() == (False, False)
            assert await machine.qmp_error("migrate", uri="nonsense", blk=True) != ""
            assert await seen() == (False, False)

        play(scene)

    @pytest.mark.parametrize("name", [row.name for row in CAPABILITIES if row.refuses_out])
    def test_what_can_not_be_kept_refuses_the_migration(self, play: Play, name: str) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            await turn(machine, name)
            why = next(row.refuses_out for row in CAPABILITIES if row.name == name)
            assert await machine.qmp_error("migrate", uri="tcp:127.0.0.1:1") == why
            assert await machine.qmp("query-migrate") == {}

        play(scene)

    @pytest.mark.parametrize(
        ("setting", "word"),
        [({"tls_creds": "tls0"}, "No TLS credentials"), ({"mode": "cpr-reboot"}, "cpr-reboot")],
    )
    def test_a_parameter_that_can_not_be_kept_refuses_it_too(
        self, play: Play, setting: dict[str, str], word: str
    ) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            await machine.qmp("migrate-set-parameters", **setting)
            assert word in await machine.qmp_error("migrate", uri="tcp:127.0.0.1:1", blk=True)

        play(scene)

    def test_where_one_is_awaited_it_is_refused_either_way_round(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            uri = f"unix:{lab.folder}/in"
            machine = await lab.start(incoming="defer")
            await machine.qmp("migrate-set-parameters", tls_creds="tls0")
            assert "TLS" in await machine.qmp_error("migrate-incoming", uri=uri)
            await machine.qmp("migrate-set-parameters", tls_creds=None)
            await turn(machine, "late-block-activate")
            assert "late-block-activate" in await machine.qmp_error("migrate-incoming", uri=uri)
            await turn(machine, "late-block-activate", on=False)
            await machine.qmp("migrate-incoming", uri=uri)
            change = [{"capability": "late-block-activate", "state": True}]
            said = await machine.qmp_error("migrate-set-capabilities", capabilities=change)
            assert "late-block-activate" in said

        play(scene)

    @pytest.mark.parametrize(
        ("there", "fits"), [("own", True), ("9e0b9a42-0000-0000-0000-000000000001", False), (None, False)]
    )
    def test_uuids_are_compared_where_that_is_asked_for(
        self, play: Play, there: str | None, fits: bool
    ) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            own = "5dbbd0ba-2a4c-4b6f-9a35-0123456789ab"
            uri = f"unix:{lab.folder}/in"
            source = await lab.start(lab.settings(lab.image("a.img", b"data")), uuid=own)
            await lab.start(
                lab.settings(lab.image("b.img")), incoming=uri, uuid=own if there == "own" else there
            )
            await turn(source, "validate-uuid")
            await source.qmp("migrate", uri=uri, blk=True)
            await source.wait_migration("completed" if fits else "failed")
            if not fits:
                why = (await source.qmp("query-migrate"))["error-desc"]
                assert why == f"UUID received is {own} and local is {there or 'not set'}"
                assert await source.status() == "running"

        play(scene)

    def test_without_asking_uuids_may_differ(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, _target, uri = await lab.pair(uuid="9e0b9a42-0000-0000-0000-000000000001")
            await source.qmp("migrate", uri=uri, blk=True)
            await source.wait_migration("completed")

        play(scene)

    def test_postcopy_is_refused_in_every_state(self, play: Play, tmp_path: Path) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            assert "Enable postcopy" in await machine.qmp_error("migrate-start-postcopy")
            await turn(machine, "postcopy-ram")
            assert "after migration has been started" in await machine.qmp_error("migrate-start-postcopy")
            with silent_destination(tmp_path / "silent") as uri:
                await machine.qmp("migrate", uri=uri, blk=True)
                said = await machine.qmp_error("migrate-start-postcopy")
                assert said == "Postcopy is for guest RAM, and this machine has none"

        play(scene)


class TestPause:
    """The capability pause-before-switchover."""

    async def paused(self, lab: EmbeddedLab, patience: Patience = ORDINARY) -> tuple[LabMachine, LabMachine]:
        source, target, uri = await lab.pair(patience)
        await turn(source, "pause-before-switchover")
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("pre-switchover")
        return source, target

    def test_the_machine_stands_still_until_it_is_told_to_go_on(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, target = await self.paused(lab)
            assert await source.status() == "finish-migrate"
            assert await source.qmp_error("cont") == "Migration is not finalized yet"
            said = await source.qmp_error("migrate-continue", state="active")
            assert said == "Migration not in expected state: pre-switchover"
            assert await target.status() == "inmigrate"
            assert locked_bytes(lab.folder / "a.img") == {100, 101, 201}
            await source.qmp("migrate-continue", state="pre-switchover")
            await source.wait_migration("completed")
            await target.wait_status("running")
            assert await source.status() == "postmigrate"
            told = [status for status in source.told if status not in ("STOP", "RESUME")]
            assert told == ["setup", "active", "pre-switchover", "device", "completed"]
            assert (lab.folder / "b.img").read_bytes() == b"data" * 1024 + bytes(SIZE - 4096)

        play(scene)

    def test_a_cancel_there_lets_it_run_on(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, target = await self.paused(lab)
            await source.qmp("migrate_cancel")
            await source.wait_migration("cancelled")
            await source.wait_status("running")
            assert await target.status() == "inmigrate"

        play(scene)

    def test_a_destination_that_dies_meanwhile_lets_it_run_on(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, target = await self.paused(lab)
            await target.close()
            await source.wait_migration("failed")
            await source.wait_status("running")

        play(scene)

    def test_the_destination_is_shown_that_the_source_is_there(self, play: Play) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            source, target = await self.paused(lab, Patience(sign=0.2, silence=2))
            await asyncio.sleep(2.2)
            assert await source.migration() == "pre-switchover"
            await source.qmp("migrate-continue", state="pre-switchover")
            await source.wait_migration("completed")
            await target.wait_status("running")

        play(scene)


class TestSetup:
    """What a destination may do before it agrees has an end."""

    @staticmethod
    def busy(listener: socket.socket, pause_seconds: float) -> None:
        """Say that the offer is looked at, and nothing else."""
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            sock.recv(1)  # from then on an answer is awaited
            while True:
                sock.sendall(encode(Type.BUSY))
                time.sleep(pause_seconds)

    @pytest.mark.parametrize(
        ("seconds", "pause_seconds", "said"),
        [
            (1, 0.1, "the destination has not accepted the migration's drives within 1 s"),
            (600, 0, "the destination sent an unexpected answer BUSY"),
        ],
        ids=["for ever", "all the time"],
    )
    def test_a_destination_that_is_busy(
        self,
        play: Play,
        tmp_path: Path,
        seconds: int,
        pause_seconds: float,
        said: str,
    ) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one(patience=Patience(agree=seconds))
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(tmp_path / "busy"))
                listener.listen()
                busy = threading.Thread(target=self.busy, args=(listener, pause_seconds))
                busy.start()
                await machine.qmp("migrate", uri=f"unix:{tmp_path}/busy", blk=True)
                await machine.wait_migration("failed")
                await asyncio.to_thread(busy.join, 10)
            assert (await machine.qmp("query-migrate"))["error-desc"] == said
            assert await machine.status() == "running"

        play(scene)

    @pytest.mark.parametrize("pause_seconds", [0.1, 0.0001])
    def test_a_hello_that_comes_in_drops(self, play: Play, tmp_path: Path, pause_seconds: float) -> None:
        record = RecordWriter()
        record.hello(b"x" * (1 << 20))
        hello = tmp_path / "hello"
        hello.write_bytes(PREAMBLE + section_start() + b"".join(record.buffers))

        async def scene(lab: EmbeddedLab) -> None:
            source, target, uri = await lab.pair(patience=Patience(hello=2))
            path = uri.removeprefix("unix:")
            dripping = [sys.executable, "-c", DRIP, path, str(hello), str(pause_seconds)]
            # Of its own process: it is not kept waiting by who reads.
            await asyncio.to_thread(subprocess.run, dripping, check=True, timeout=PATIENCE)
            await source.qmp("migrate", uri=uri, blk=True)
            await target.wait_status("running")

        play(scene)


def test_a_destination_hears_of_a_source_that_reads_what_needs_no_sending(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros that the source has stored and the destination has as well, for longer than it waits."""
    read_into = FileNode.read_into

    def slowly(self: FileNode, offset: int, buffer: memoryview) -> None:
        time.sleep(len(buffer) / SIZE * 4)
        read_into(self, offset, buffer)

    async def scene(lab: EmbeddedLab) -> None:
        uri = f"unix:{lab.folder}/in"
        source = await lab.start(lab.settings(lab.image("a.img", bytes(SIZE))))
        settings = lab.settings(lab.image("b.img"))
        target = await lab.start(settings, incoming=uri, patience=Patience(silence=2))
        await source.qmp("migrate-set-parameters", max_bandwidth=1 << 20)  # so that little is read at once
        monkeypatch.setattr(FileNode, "read_into", slowly)
        await source.qmp("migrate", uri=uri, blk=True)
        assert await source.wait_migration("completed", "failed") == "completed"
        await target.wait_status("running")

    play(scene)


def test_a_source_that_reads_what_needs_no_sending_can_be_cancelled(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_into = FileNode.read_into

    def slowly(self: FileNode, offset: int, buffer: memoryview) -> None:
        time.sleep(len(buffer) / SIZE * 60)
        read_into(self, offset, buffer)

    async def scene(lab: EmbeddedLab) -> None:
        uri = f"unix:{lab.folder}/in"
        source = await lab.start(lab.settings(lab.image("a.img", bytes(SIZE))))
        await lab.start(lab.settings(lab.image("b.img")), incoming=uri)
        await source.qmp("migrate-set-parameters", max_bandwidth=1 << 20)
        monkeypatch.setattr(FileNode, "read_into", slowly)
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("active")
        await source.qmp("migrate_cancel")
        await source.wait_migration("cancelled")

    play(scene)
