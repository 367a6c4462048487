"""A paused migration goes on over commands, and with read-only drives that it fills."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.peers import require
from tests.support.processes import Lab, Qmon
from tests.support.waiting import eventually

SIZE = 4 * MIB
RECOVER = "migrate_set_capability x-qmon-recover on"


def arrived(target: Qmon, name: str) -> int:
    """Bytes of a drive that have arrived."""
    figures = target.qmp("query-migrate").get("x-qmon-disks", ())
    return next((int(each["transferred"]) for each in figures if each["drive"] == name), 0)


def children(qmon: Qmon) -> list[int]:
    """The processes that it has started."""
    tasks = Path(f"/proc/{qmon.process.pid}/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def test_a_command_that_dies_pauses_it_and_another_one_goes_on(lab: Lab) -> None:
    require("socat")
    source, target, uri = lab.disk_pair(SIZE, bandwidth="128k")
    for side in (source, target):
        side.quietly(RECOVER)
    line = f'"exec:exec socat - {uri}"'
    source.quietly(f"migrate -d blk {line}")
    eventually(lambda: arrived(target, "d0") > 0, "the copy goes on")
    (socat,) = children(source)
    os.kill(socat, signal.SIGKILL)
    for side in (source, target):
        side.wait_migration("postcopy-paused")
    with source.guest() as guest:
        guest.write(0, noise(512, 5))
    assert "Error" in source.command(f"migrate -r file:{lab.folder}/x")
    assert not (lab.folder / "x").exists()
    source.quietly("migrate_set_parameter max-bandwidth 0", f"migrate -d -r {line}")
    source.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


@pytest.mark.parametrize("restarted", ["none", "source", "target", "both"])
def test_a_read_only_drive_that_is_filled_goes_on(lab: Lab, restarted: str) -> None:
    disks = {
        "source": (filled(lab.folder / "a.img", MIB), filled(lab.folder / "a.iso", SIZE, 2)),
        "target": (blank(lab.folder / "b.img", MIB), blank(lab.folder / "b.iso", SIZE)),
    }
    options = {name: [*drive(disk), *drive(cd, "cd0", readonly="on")] for name, (disk, cd) in disks.items()}
    source, target, uri = lab.pair(options["source"], options["target"], bandwidth="1M")
    for side in (source, target):
        side.quietly(RECOVER)
    source.quietly(f"migrate -d blk {uri}")
    eventually(lambda: arrived(target, "cd0") > MIB // 8, "the read-only drive is being filled")
    source.quietly("migrate_set_parameter max-bandwidth 64k")
    if restarted in ("source", "both"):
        source.kill()
        source = lab.start("source-again", *options["source"])
    if restarted in ("target", "both"):
        target.kill()
        target = lab.start("target-again", *options["target"], "-incoming", uri)
    if restarted == "none":
        source.quietly("migrate_pause")
    for side in (source, target):
        side.wait_migration("postcopy-paused")
    source.quietly("migrate_set_parameter max-bandwidth 0", f"migrate -d -r {uri}")
    source.wait_migration("completed")
    target.wait_status("running")
    for here, there in zip(disks["source"], disks["target"], strict=True):
        assert same(here, there)
    assert "(raw, read-only)" in target.command("info block cd0")
    lab.start("reader", *drive(disks["target"][1], readonly="on"))  # which a writer's locks would keep out
