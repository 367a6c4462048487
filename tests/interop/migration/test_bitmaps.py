"""The capability dirty-bitmaps: a disk's bitmaps move along, and say exactly what guests wrote."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.support.images import MIB, blank, drive, filled
from tests.support.peers import require
from tests.support.processes import Lab, Qmon, migrated
from tests.support.qcow2_images import run

SIZE = 8 * MIB
GRAIN = 64 << 10


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "nbdinfo")


def pair(lab: Lab, *, there: str = "", **options: str) -> tuple[Qmon, Qmon, str]:
    """A qcow2 at either end, with the capability on; ``there`` is a bitmap of the one at the destination."""
    raw = filled(lab.folder / "a.raw", SIZE)
    run("convert", "-f", "raw", "-O", "qcow2", raw, lab.folder / "a")
    run("create", "-q", "-f", "qcow2", lab.folder / "b", str(SIZE))
    if there:
        run("bitmap", "--add", lab.folder / "b", there)
    source, target, uri = lab.pair(
        drive(lab.folder / "a", format="qcow2"), drive(lab.folder / "b", format="qcow2"), **options
    )
    for side in (source, target):
        side.quietly("migrate_set_capability dirty-bitmaps on")
    return source, target, uri


def add(side: Qmon, name: str, **more: Any) -> None:
    side.qmp("block-dirty-bitmap-add", node="d0", name=name, **more)


def bitmaps(side: Qmon) -> dict[str, tuple[int, int, bool, bool]]:
    """By name: granularity, count, whether it records, whether it is persistent."""
    (disk,) = side.qmp("query-block")
    found = disk["inserted"].get("dirty-bitmaps", [])
    return {
        each["name"]: (each["granularity"], each["count"], each["recording"], each["persistent"])
        for each in found
    }


def dirty(side: Qmon, name: str) -> list[tuple[int, int]]:
    """The dirty ranges as an NBD client sees them."""
    side.qmp("block-dirty-bitmap-disable", node="d0", name=name)
    path = side.nbd.with_suffix(".map")
    side.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}})
    node = side.qmp("query-block")[0]["inserted"]["node-name"]
    side.qmp("block-export-add", id="map", type="nbd", bitmaps=[name], name="map", **{"node-name": node})
    uri = f"nbd+unix:///map?socket={path}"
    words = ["nbdinfo", "--json", f"--map=qemu:dirty-bitmap:{name}", uri]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return [(each["offset"], each["length"]) for each in found if each["type"] == 1]


def test_they_arrive_with_what_guests_wrote_until_the_end_and_nothing_else(lab: Lab) -> None:
    source, target, uri = pair(lab, bandwidth="256k")
    add(source, "p0", persistent=True)
    add(source, "fine", granularity=4096)
    add(source, "off", disabled=True)
    source.export("d0")
    guest = source.guest()
    guest.write(GRAIN, b"x" * GRAIN)
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("active")
    guest.write(5 * MIB, b"y" * 100)
    source.quietly("migrate_set_parameter max-bandwidth 0")
    source.wait_migration("completed")
    target.wait_status("running")
    assert bitmaps(target) == {
        "p0": (GRAIN, 2 * GRAIN, True, True),
        "fine": (4096, GRAIN + 4096, True, False),
        "off": (GRAIN, 0, False, False),
    }
    assert "not copied" not in source.command("info migrate")
    assert dirty(target, "p0") == [(GRAIN, GRAIN), (5 * MIB, GRAIN)]
    target.close()
    said = json.loads(run("info", "--output=json", lab.folder / "b"))
    stored = said["format-specific"]["data"]["bitmaps"]
    assert [each["name"] for each in stored] == ["p0"]


def test_without_bitmaps_the_capability_changes_nothing(lab: Lab) -> None:
    source, target, uri = pair(lab)
    target.quietly("migrate_set_capability dirty-bitmaps off")
    migrated(source, target, f"migrate -d blk {uri}")


def refused(source: Qmon, uri: str) -> str:
    return source.command(f"migrate blk {uri}").splitlines()[-1]


def refused_by_a_trial(source: Qmon, uri: str) -> str:
    found = source.qmp("x-qmon-migrate-trial", uri=uri, blk=True)
    assert "x-qmon-stays-behind" not in found
    (why,) = found["mismatches"]
    return str(why)


def test_what_can_not_be_taken_is_refused_in_one_line(lab: Lab) -> None:
    source, target, uri = pair(lab)
    add(source, "b0")
    target.quietly("migrate_set_capability dirty-bitmaps off")
    assert "the capability dirty-bitmaps is off at the destination" in refused(source, uri)
    assert "the capability dirty-bitmaps is off at the destination" in refused_by_a_trial(source, uri)
    target.quietly("migrate_set_capability dirty-bitmaps on")
    assert source.status() == "running"
    target.close()
    two = lab.start("again", *drive(blank(lab.folder / "c", SIZE)), "-incoming", uri)
    two.quietly("migrate_set_capability dirty-bitmaps on")
    source.qmp("block-dirty-bitmap-remove", node="d0", name="b0")
    add(source, "p0", persistent=True)
    assert "Can't make bitmap 'p0' persistent" in refused(source, uri)
    assert "Can't make bitmap 'p0' persistent" in refused_by_a_trial(source, uri)
    assert (source.status(), list(bitmaps(source))) == ("running", ["p0"])


def test_one_in_use_and_one_that_is_there_already_are_refused_in_qemus_words(lab: Lab) -> None:
    source, _, uri = pair(lab, there="b0")
    add(source, "b0")
    exists = "Bitmap with the same name ('b0') already exists on destination"
    assert refused_by_a_trial(source, uri) == exists
    assert refused(source, uri) == f"Error: {exists}"
    source.qmp("block-dirty-bitmap-disable", node="d0", name="b0")
    source.quietly(f"nbd_server_start unix:{source.nbd}")
    node = source.qmp("query-block")[0]["inserted"]["node-name"]
    source.qmp("block-export-add", id="e", type="nbd", bitmaps=["b0"], **{"node-name": node})
    in_use = "Bitmap 'b0' is currently in use by another operation and cannot be used"
    assert refused(source, uri) == f"Error: {in_use}"
    assert source.status() == "running"


def test_they_are_in_use_while_it_is_under_way_and_free_again(lab: Lab) -> None:
    """So what has been sent stays true: marks only become more."""
    source, target, uri = pair(lab, bandwidth="256k")
    for name in ("b0", "b1"):
        add(source, name)
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("active")
    (disk,) = source.qmp("query-block")
    assert [each["busy"] for each in disk["inserted"]["dirty-bitmaps"]] == [True, True]
    busy = "Node 'd0' is busy: block device is in use by migration"
    for change, name in (("add", "b2"), *((each, "b0") for each in ("clear", "disable", "enable", "remove"))):
        assert source.qmp_error(f"block-dirty-bitmap-{change}", node="d0", name=name) == busy
    assert source.qmp_error("block-dirty-bitmap-merge", node="d0", target="b0", bitmaps=["b1"]) == busy
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")
    target.wait_migration("failed")
    source.qmp("block-dirty-bitmap-remove", node="d0", name="b1")
    source.qmp("block-dirty-bitmap-disable", node="d0", name="b0")
    source.quietly("migrate_set_parameter max-bandwidth 0")
    migrated(source, target, f"migrate -d blk {uri}")
    assert bitmaps(target) == {"b0": (GRAIN, 0, False, False)}


def test_aliases_choose_and_rename_them(lab: Lab) -> None:
    source, target, uri = pair(lab)
    for name in ("b0", "b1"):
        add(source, name)

    def mapping(name: str, **more: Any) -> list[dict[str, Any]]:
        return [{"node-name": "d0", "alias": "disk", "bitmaps": [{"name": name, "alias": "moved", **more}]}]

    source.qmp("migrate-set-parameters", **{"block-bitmap-mapping": mapping("b0")})
    target.qmp(
        "migrate-set-parameters", **{"block-bitmap-mapping": mapping("new", transform={"persistent": True})}
    )
    said = source.command(f"migrate blk {uri}").splitlines()
    assert said[-1] == "drive 'd0': 1 dirty bitmap was not copied"
    target.wait_status("running")
    assert bitmaps(target) == {"new": (GRAIN, 0, True, True)}


def test_a_mapping_that_does_not_fit_is_refused_in_qemus_words(lab: Lab) -> None:
    """QEMU only logs them, and drops the bitmap."""
    source, target, uri = pair(lab)
    add(source, "b0")

    def mapped(side: Qmon, node: str, alias: str, bitmap: str) -> None:
        moved = [{"name": "b0", "alias": bitmap}]
        mapping = [{"node-name": node, "alias": alias, "bitmaps": moved}]
        side.qmp("migrate-set-parameters", **{"block-bitmap-mapping": mapping})

    mapped(source, "d0", "disk", "moved")
    for there, said in (
        (("d0", "other", "moved"), "Unknown node alias 'disk'"),
        (("d0", "disk", "other"), "Unknown bitmap alias 'moved' on node 'd0' (alias 'disk')"),
        (("nosuch", "disk", "moved"), "Cannot find device='' nor node-name='nosuch'"),
    ):
        mapped(target, *there)
        assert refused(source, uri) == f"Error: {said}"
    mapped(target, "d0", "disk", "moved")
    migrated(source, target, f"migrate -d blk {uri}")


@pytest.mark.parametrize("killed", [False, True])
def test_they_arrive_after_a_pause(lab: Lab, *, killed: bool) -> None:
    """A destination that was restarted has agreed to take them before."""
    source, target, uri = pair(lab, bandwidth="128k")
    for side in (source, target):
        side.quietly("migrate_set_capability x-qmon-recover on")
    add(source, "b0")
    source.export("d0")
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("active")
    source.guest().write(3 * MIB, b"x")
    source.quietly("migrate_pause")
    source.wait_migration("postcopy-paused")
    target.wait_migration("postcopy-paused")
    if killed:
        target.kill()
        target = lab.start("restarted", *drive(lab.folder / "b", format="qcow2"), "-incoming", uri)
    again = f"unix:{lab.folder / 'again'}"
    target.quietly(f"migrate_recover {again}")
    source.quietly("migrate_set_parameter max-bandwidth 0", f"migrate -d -r {again}")
    source.wait_migration("completed")
    target.wait_status("running")
    assert bitmaps(target) == {"b0": (GRAIN, GRAIN, True, False)}
