"""Persistent bitmaps: QEMU and qmon read what the other stored; neither trusts one after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.bitmaps import add, dirty, stored
from tests.support.images import MIB, drive
from tests.support.peer import QEMU_7, Peer, options_of
from tests.support.peers import require
from tests.support.processes import Lab, Qmon
from tests.support.qcow2_images import check, run, run_io
from tests.support.qmp_client import QmpClient

ADD, REMOVE, CLEAR = "block-dirty-bitmap-add", "block-dirty-bitmap-remove", "block-dirty-bitmap-clear"
ENABLE, DISABLE = "block-dirty-bitmap-enable", "block-dirty-bitmap-disable"
MERGE = "block-dirty-bitmap-merge"

KIB64 = 65536


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-system-x86_64", "qemu-img", "qemu-io", "qemu-nbd", "nbdinfo")


def start(lab: Lab, image: Path, name: str = "one", **options: str) -> Qmon:
    return lab.start(name, *drive(image, format="qcow2", **options))


def bitmaps(target: Qmon | QmpClient, node: str = "d0") -> list[dict[str, Any]]:
    """The bitmaps of a drive's topmost node, by QMP."""
    ask = target.qmp if isinstance(target, Qmon) else target.run
    (block,) = [each for each in ask("query-block") if each["device"] == node]
    found: list[dict[str, Any]] = block["inserted"].get("dirty-bitmaps", [])
    return found


@contextmanager
def in_qemu(folder: Path, image: Path, **options: str) -> Iterator[QmpClient]:
    """A QEMU with the image as d0."""
    more = "".join(f",{name}={value}" for name, value in options.items())
    peer = Peer(QEMU_7, folder / "qemu", lambda _: options_of(f"id=d0,file={image},format=qcow2{more}"))
    with peer, peer.qmp() as client:
        yield client


@pytest.mark.parametrize(
    ("cluster_size", "backing"), [(512, ""), (4096, "b"), (65536, ""), (65536, "b" * 200), (2 << 20, "b")]
)
def test_qemu_reads_what_qmon_stored(lab: Lab, cluster_size: int, backing: str) -> None:
    image = lab.folder / "image"
    more: list[object] = []
    if backing:
        run("create", "-q", "-f", "qcow2", lab.folder / backing, "20M")
        more = ["-b", backing, "-F", "qcow2"]
    run("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster_size}", *more, image, "20M")
    qmon = start(lab, image)
    for name, granularity in {"a": 512, "für später": 65536, "c": 1 << 31}.items():
        qmon.qmp(ADD, node="d0", name=name, persistent=True, granularity=granularity)
    qmon.qmp(ADD, node="d0", name="all", persistent=True, granularity=512)
    qmon.qmp(ADD, node="d0", name="only in memory")
    for line in ("write 100k 1k", "write 7M 3M", "write -z 512 512", "discard 19M 1M"):
        qmon.command(f'qemu-io d0 "{line}"')
    qmon.qmp(DISABLE, node="d0", name="a")
    qmon.command('qemu-io d0 "write 0 20M"')
    mine = bitmaps(qmon)
    assert stored(image) == {}
    qmon.command("drive_del d0")
    check(image)
    assert list(stored(image)) == ["all", "c", "für später", "a"]
    assert stored(image)["a"] == ([], 512)
    a = [(512, 512), (100 << 10, 1 << 10), (7 * MIB, 3 * MIB), (19 * MIB, MIB)]
    assert dirty(image, "a") == a
    assert dirty(image, "all") == dirty(image, "für später") == [(0, 20 * MIB)]
    with in_qemu(lab.folder, image) as theirs:
        same = [each for each in mine if each["persistent"]]
        assert sorted(bitmaps(theirs), key=str) == sorted(same, key=str)
    check(image)
    run("bitmap", "--merge", "a", "--clear", "--enable", image, "c")
    run("bitmap", "--remove", image, "all")
    qmon.command(f"drive_add 0 if=none,id=d0,file={image},format=qcow2")
    again = {each["name"]: each for each in bitmaps(qmon)}
    assert list(again) == ["a", "für später", "c"]
    assert (again["a"]["count"], again["a"]["recording"]) == (sum(length for _, length in a), False)


def test_qmon_goes_on_with_what_qemu_stored(lab: Lab) -> None:
    image = lab.folder / "image"
    run("create", "-q", "-f", "qcow2", image, "4M")
    add(image, "a", "--disable,-g,512,off", "none")
    run_io(image, "write 0 64k", "write 1M 1")
    with in_qemu(lab.folder, image) as theirs:
        theirs.run(ENABLE, node="d0", name="off")
    run_io(image, "write 2M 100")
    qmon = start(lab, image)
    assert [(each["name"], each["count"], each["recording"]) for each in bitmaps(qmon)] == [
        ("none", 3 * KIB64, True),
        ("off", 512, True),
        ("a", 3 * KIB64, True),
    ]
    assert all("in-use" in flags for flags, _ in stored(image).values())
    qmon.command('qemu-io d0 "write 3M 1000"')
    qmon.qmp(CLEAR, node="d0", name="none")
    qmon.qmp(REMOVE, node="d0", name="a")
    assert list(stored(image)) == ["off", "none"]
    qmon.close()
    check(image)
    assert stored(image) == {"off": (["auto"], 512), "none": (["auto"], KIB64)}
    assert (dirty(image, "off"), dirty(image, "none")) == ([(2 * MIB, 512), (3 * MIB, 1024)], [])


def test_an_image_that_loses_its_last_bitmap_has_none(lab: Lab) -> None:
    image = lab.folder / "image"
    run("create", "-q", "-f", "qcow2", image, "1M")
    before = image.read_bytes()
    qmon = start(lab, image)
    qmon.qmp(ADD, node="d0", name="a", persistent=True)
    for _ in range(2):
        qmon.command("drive_del d0")
        assert list(stored(image)) == ["a"]
        qmon.command(f"drive_add 0 if=none,id=d0,file={image},format=qcow2")
    qmon.qmp(REMOVE, node="d0", name="a")
    qmon.command("drive_del d0")
    check(image)
    assert stored(image) == {}
    assert image.read_bytes()[:112] == before[:112]


def test_after_a_crash_no_bitmap_is_trusted(lab: Lab) -> None:
    image = lab.folder / "image"
    run("create", "-q", "-f", "qcow2", image, "1M")
    add(image, "a", "--disable,b")
    qmon = start(lab, image)
    qmon.qmp(ADD, node="d0", name="new", persistent=True)
    qmon.command('qemu-io d0 "write 0 64k"')
    qmon.kill()
    check(image)
    requests: list[tuple[str, dict[str, Any]]] = [
        *((command, {"node": "d0", "name": "a"}) for command in (CLEAR, ENABLE, DISABLE, ADD)),
        (ADD, {"node": "d0", "name": "x"}),
        (MERGE, {"node": "d0", "target": "x", "bitmaps": ["a"]}),
        (MERGE, {"node": "d0", "target": "a", "bitmaps": ["x"]}),
        ("block_resize", {"device": "d0", "size": 2 * MIB}),
        (REMOVE, {"node": "d0", "name": "x"}),
    ]
    with in_qemu(lab.folder, image) as theirs:
        said = [theirs.ask(command, arguments) for command, arguments in requests]
        listed = bitmaps(theirs)
    assert [each["inconsistent"] for each in listed] == [True, True]
    qmon = start(lab, image, "two")
    assert bitmaps(qmon) == listed
    with QmpClient(qmon.folder / "two.qmp") as ours:
        assert [ours.ask(command, arguments) for command, arguments in requests] == said
    for name in ("a", "b"):
        qmon.qmp(REMOVE, node="d0", name=name)
    qmon.close()
    check(image)
    assert stored(image) == {}


def test_it_follows_the_size_and_stays_with_snapshots(lab: Lab) -> None:
    image = lab.folder / "image"
    run("create", "-q", "-f", "qcow2", image, "1M")
    add(image, "a")
    qmon = start(lab, image)
    qmon.quietly("snapshot_blkdev_internal d0 s", "block_resize d0 300M")
    qmon.command('qemu-io d0 "write 299M 1M"')
    assert "Device has active dirty bitmaps" in qmon.command("loadvm s")
    qmon.command("drive_del d0")
    check(image)
    assert dirty(image, "a") == [(299 * MIB, MIB)]
    qmon.command(f"drive_add 0 if=none,id=d0,file={image},format=qcow2")
    qmon.quietly("block_resize d0 64k")
    assert bitmaps(qmon)[0]["count"] == 0
    qmon.command('qemu-io d0 "write 0 64k"')
    qmon.quietly("block_resize d0 1M")
    qmon.command("drive_del d0")
    check(image)
    assert dirty(image, "a") == [(0, KIB64)]


def test_below_an_overlay_it_is_stored_and_only_read(lab: Lab) -> None:
    image = lab.folder / "image"
    run("create", "-q", "-f", "qcow2", image, "1M")
    add(image, "a")
    qmon = start(lab, image)
    qmon.qmp(ADD, node="d0", name="new", persistent=True)
    qmon.qmp(ADD, node="d0", name="memory")
    qmon.command('qemu-io d0 "write 0 64k"')
    qmon.quietly(f"snapshot_blkdev d0 {lab.folder}/over")
    qmon.command('qemu-io d0 "write 512k 64k"')
    assert bitmaps(qmon) == []
    assert stored(image) == {"a": (["auto"], KIB64), "new": (["auto"], KIB64)}
    (base,) = [each for each in qmon.qmp("query-named-block-nodes") if each.get("dirty-bitmaps")]
    assert [(each["name"], each["count"]) for each in base["dirty-bitmaps"]] == [
        ("memory", KIB64),
        ("new", KIB64),
        ("a", KIB64),
    ]
    node = base["node-name"]
    assert qmon.qmp_error(CLEAR, node=node, name="a") == "Bitmap 'a' is readonly and cannot be modified"
    qmon.qmp(CLEAR, node=node, name="memory")
    qmon.quietly("commit d0")
    qmon.command("drive_del d0")
    check(image)
    assert dirty(image, "a") == dirty(image, "new") == [(0, KIB64), (512 << 10, KIB64)]


def test_a_disk_that_moves_takes_them_along(lab: Lab) -> None:
    image = lab.folder / "image"
    run("create", "-q", "-f", "qcow2", image, "1M")
    (lab.folder / "link").symlink_to(image)
    source, target, uri = lab.pair(drive(image, format="qcow2"), drive(lab.folder / "link", format="qcow2"))
    source.qmp(ADD, node="d0", name="a", persistent=True)
    source.qmp(ADD, node="d0", name="memory")
    source.command('qemu-io d0 "write 0 64k"')
    assert source.command(f"migrate -d {uri}") == (
        "warning: drive 'd0': 1 dirty bitmap is not copied (the capability dirty-bitmaps is off)"
    )
    source.wait_migration("completed")
    target.wait_status("running")
    assert [(each["name"], each["count"]) for each in bitmaps(target)] == [("a", KIB64)]
    target.command('qemu-io d0 "write 128k 64k"')
    target.close()
    assert dirty(image, "a") == [(0, KIB64), (2 * KIB64, KIB64)]


def test_a_directory_of_several_sectors_is_marked_and_stored(lab: Lab) -> None:
    image = lab.folder / "image"
    run("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", image, "1M")
    qmon = start(lab, image)
    names = [f"{number:02}{'x' * 300}" for number in range(20)]
    for name in names:
        qmon.qmp(ADD, node="d0", name=name, persistent=True)
    qmon.command("drive_del d0")
    check(image)
    assert sorted(stored(image)) == names
    qmon.command(f"drive_add 0 if=none,id=d0,file={image},format=qcow2")
    assert {flags[0] for flags, _ in stored(image).values()} == {"in-use"}
    for name in names[::2]:
        qmon.qmp(REMOVE, node="d0", name=name)
    qmon.kill()
    check(image, leaks=True)
    with in_qemu(lab.folder, image) as theirs:
        assert sorted(each["name"] for each in bitmaps(theirs) if each["inconsistent"]) == names[1::2]


def test_other_extensions_of_the_header_stay(lab: Lab) -> None:
    image = lab.folder / "image"
    run("create", "-q", "-f", "qcow2", image, "1M")
    with image.open("r+b") as file:
        data = file.read(1024)
        end = data.index(b"raw external data") - 2 + 48  # the feature names are the last extension
        file.seek(end)
        file.write(b"\x12\x34\x56\x78\0\0\0\x0bunknown ext" + bytes(5))
    add(image, "theirs")
    qmon = start(lab, image)
    qmon.qmp(ADD, node="d0", name="ours", persistent=True)
    qmon.qmp(REMOVE, node="d0", name="theirs")
    assert stored(image) == {}
    qmon.command("drive_del d0")
    assert list(stored(image)) == ["ours"]
    assert b"\x12\x34\x56\x78\0\0\0\x0bunknown ext" in image.read_bytes()[:1024]
    check(image)
    qmon.command(f"drive_add 0 if=none,id=d0,file={image},format=qcow2")
    qmon.qmp(REMOVE, node="d0", name="ours")
    qmon.command("drive_del d0")
    run("amend", "-o", "lazy_refcounts=on", image)  # QEMU writes the header anew
    assert b"unknown ext" in image.read_bytes()[:1024]
    check(image)
