"""``snapshot-save``, ``-load`` and ``-delete``: jobs as a real QEMU's, on the disks, and at one moment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB
from tests.support.job_sides import JobSides, Side
from tests.support.peers import require
from tests.support.waiting import PATIENCE


def nodes(folder: Path) -> list[str]:
    options = []
    for name in ("x", "y"):
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", f"{name}.qcow2", "1M"], cwd=folder, check=True
        )
        options += ["-blockdev", f"qcow2,node-name={name},file.driver=file,file.filename={name}.qcow2"]
    (folder / "r.img").write_bytes(bytes(MIB))
    return [*options, "-blockdev", "raw,node-name=r,file.driver=file,file.filename=r.img,file.node-name=rf"]


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[JobSides]:
    require("qemu-system-x86_64", "qemu-img")
    with JobSides(tmp_path, nodes) as sides:
        yield sides


def job(side: Side, command: str, *devices: str, tag: str = "t", vmstate: str | None = "x") -> Any:
    """What is said and told, but for the events that the moment of the reply may precede or follow."""
    arguments: dict[str, Any] = {"job-id": "j", "tag": tag, "devices": list(devices)}
    if vmstate is not None:
        arguments["vmstate"] = vmstate
    return side.job(command, arguments)


def save(side: Side, *devices: str, **more: Any) -> Any:
    return job(side, "snapshot-save", *devices, **more)


def load(side: Side, *devices: str, **more: Any) -> Any:
    return job(side, "snapshot-load", *devices, **more)


def delete(side: Side, *devices: str, **more: Any) -> Any:
    return job(side, "snapshot-delete", *devices, vmstate=None, **more)


def tags(side: Side) -> dict[str, list[str]]:
    """The snapshots that qemu-img finds in each image."""
    found = {}
    for name in ("x", "y"):
        asked = ["qemu-img", "info", "-U", "--output=json", f"{name}.qcow2"]
        info = json.loads(subprocess.check_output(asked, cwd=side.folder))
        found[name] = [each["name"] for each in info.get("snapshots", [])]
    return found


def test_snapshots_are_taken_loaded_and_deleted(sides: JobSides) -> None:
    """The guest stands still meanwhile, which is told."""

    def scene(side: Side) -> Any:
        said = [save(side, "x", "y"), tags(side), side.ask("query-status")]
        said += [save(side, "x", tag="u"), save(side, "y", tag="", vmstate="y"), tags(side)]
        said += [load(side, "x", "y"), side.ask("query-status"), tags(side)]
        said += [
            delete(side, "y"),
            tags(side),
            delete(side, "x", "y"),
            tags(side),
            delete(side, "x", tag="none"),
        ]
        said += [
            side.ask("stop"),
            side.events(),
            save(side, "x", "x"),
            load(side, "x"),
            side.ask("query-status"),
        ]
        return said

    told = sides.same(scene)
    assert [name for name, _ in told[0]["events"] if name != "JOB_STATUS_CHANGE"] == ["STOP", "RESUME"]


def test_what_can_not_be_saved_or_deleted_is_the_jobs_error(sides: JobSides) -> None:
    def scene(side: Side) -> Any:
        said = [save(side, "x")]
        said += [
            save(side, "x"),
            save(side, "y", vmstate="x"),
            save(side, "x", vmstate="no"),
        ]
        said += [save(side, "y", vmstate="r", tag="u"), save(side, "y", vmstate="no", tag="u")]
        for device in ("no", "r", "rf"):
            said += [save(side, device, tag="u"), save(side, "x", device, tag="u"), delete(side, "x", device)]
        said += [save(side), delete(side), tags(side)]
        return said

    sides.same(scene)


def test_no_snapshot_gets_the_name_of_another_one(sides: JobSides) -> None:
    """QEMU takes a second one of that name if only some of the disks have it."""
    save(sides.ours, "x")
    (ended,) = save(sides.ours, "y", "x")["jobs"]
    assert ended["error"] == "Snapshot 't' already exists in one or more devices"
    assert tags(sides.ours) == {"x": ["t"], "y": []}


def test_a_snapshot_that_can_not_be_loaded_is_the_jobs_error(sides: JobSides) -> None:
    """QEMU's machine is stopped then, qmon's goes on."""

    def scene(side: Side) -> Any:
        save(side, "x")
        said = [load(side, "x", tag="no"), load(side, "x", "y"), load(side, "x", vmstate="y")]
        said += [load(side, "x", vmstate="no"), load(side, "r"), load(side, "no"), load(side)]
        return [each["jobs"] for each in said]

    sides.same(scene)
    assert sides.ours.ask("query-status")["return"]["status"] == "running"


def test_a_job_is_refused_before_it_starts(sides: JobSides) -> None:
    def scene(side: Side) -> Any:
        said = []
        for command in ("snapshot-save", "snapshot-load", "snapshot-delete"):
            given: dict[str, Any] = {"job-id": "1j", "tag": "t", "vmstate": "x", "devices": ["x"]}
            if command == "snapshot-delete":
                del given["vmstate"]
            said += [side.ask(command, given), side.ask(command, {**given, "devices": "x"})]
            said += [side.ask(command, {**given, "devices": [1]}), side.ask(command, {"job-id": "j"})]
        return said, side.events()

    sides.same(scene)


def test_a_snapshot_holds_what_was_there(sides: JobSides) -> None:
    """The disks come back together; what was written since is gone."""
    side = sides.ours
    for name in ("x", "y"):
        side.peer.command(f'qemu-io {name} "write -q -P 1 0 64k"')
    save(side, "x", "y")
    for name in ("x", "y"):
        side.peer.command(f'qemu-io {name} "write -q -P 2 0 1M"')
    load(side, "x", "y")
    side.client.run("stop")
    side.client.run("quit")
    side.peer.process.wait(PATIENCE)
    for name in ("x", "y"):
        reads = ["-c", "read -P 1 0 64k", "-c", "read -P 0 64k 960k"]
        subprocess.run(["qemu-io", "-r", *reads, f"{name}.qcow2"], cwd=side.folder, check=True)
        subprocess.run(["qemu-img", "check", "-q", f"{name}.qcow2"], cwd=side.folder, check=True)
