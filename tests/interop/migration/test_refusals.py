"""What a migration can't be is refused in one line on both sides, and nobody is worse off for it."""

from __future__ import annotations

import contextlib
import re
import resource
from pathlib import Path
from uuid import uuid4

import pytest

from qmon.migration.wire.offer import DriveOffer, Mode, Offer
from qmon.migration.wire.stream import PREAMBLE, section_footer, section_start
from qmon.migration.wire.writer import RecordWriter
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.ports import free_port
from tests.support.processes import Lab, Qmon, migrated
from tests.support.visitors import drained, visitor
from tests.support.waiting import eventually

SIZE = 2 * MIB + 512


def refused(source: Qmon, target: Qmon, line: str, why: str) -> None:
    """A migration that both sides refuse for one reason, in one line each; the source runs on."""
    before = len(target.log().splitlines())
    source.quietly(line)
    status = source.wait_migration("failed")
    assert re.fullmatch(rf"failed \({why}\)", status), status
    (said,) = said_since(target, before)
    assert re.fullmatch(rf"qmon: incoming migration: connection from \S+.* closed: {why}", said), said
    assert source.status() == "running"
    assert target.status() == "paused (inmigrate)"
    with source.guest() as guest:
        guest.write(0, noise(512, 77))
        assert guest.read(0, 512) == noise(512, 77)
        guest.write(0, noise(SIZE)[:512])


def test_drives_that_do_not_fit_are_refused_and_a_source_that_fits_is_taken(lab: Lab) -> None:
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    a, b = (filled(lab.folder / name, SIZE) for name in "ab")
    larger, smaller = filled(lab.folder / "larger", SIZE + 512), filled(lab.folder / "smaller", SIZE - 512)
    there = [blank(lab.folder / f"t{name}", SIZE) for name in "ab"]
    target = lab.start("target", *drive(there[0]), *drive(there[1], "d1", readonly="on"), "-incoming", uri)
    ro = drive(b, "d1", readonly="on")
    for number, (options, why) in enumerate(
        (
            (
                [*drive(larger), *ro],
                f"drive 'd0' has {SIZE + 512} bytes at the source and {SIZE} at the destination:"
                " they must be equal",
            ),
            (
                [*drive(smaller), *ro],
                f"drive 'd0' has {SIZE - 512} bytes at the source and {SIZE} at the destination:"
                " they must be equal",
            ),
            (
                [*drive(a), *drive(b, "other")],
                "the destination does not match, for 2 reasons: (1) the destination has no drive 'other': it"
                " has 'd0', 'd1'; (2) the destination has a drive 'd1', but the source does not",
            ),
            (
                [*drive(a), *ro, *drive(larger, "d2")],
                "the destination has no drive 'd2': it has 'd0', 'd1'",
            ),
            (drive(a), "the destination has a drive 'd1', but the source does not"),
            (
                [*drive(a), *drive(b, "d1")],
                "drive 'd1' is read-only at the destination and writable at the source",
            ),
            (
                [*drive(a, readonly="on"), *ro],
                "drive 'd0' is writable at the destination and read-only at the source",
            ),
        )
    ):
        source = lab.start(f"source{number}", *options)
        name = "d1" if "readonly=on" in options[1] else "d0"
        if name == "d1":
            source.quietly(f"migrate -d {uri}")  # with blk it would be copied
            assert why in source.wait_migration("failed")
        else:
            source.export(name)
            cure = r"\. There: end qmon, 'truncate -s \d+ FILE' .*" if why.endswith("be equal") else ""
            for mode in ("", "blk ", "blk inc "):
                refused(source, target, f"migrate -d {mode}{uri}", re.escape(why) + (cure if mode else ""))
        source.close()
    good = lab.start("good", *drive(a), *ro)
    migrated(good, target, f"migrate -d blk {uri}")
    assert same(a, there[0])


def test_a_disk_is_not_copied_onto_itself(lab: Lab) -> None:
    image = filled(lab.folder / "disk.img", SIZE)
    (lab.folder / "link.img").symlink_to(image)
    source, target, uri = lab.pair(drive(image), drive(lab.folder / "link.img"))
    source.quietly(f"migrate -d blk {uri}")
    status = source.wait_migration("failed")
    assert "drive 'd0' can't be opened at the destination: Failed to get" in status
    assert f"is another process using the image [{lab.folder / 'link.img'}]?" in status
    target.wait_log("Failed to get")
    assert len(target.log().splitlines()) == 1
    assert image.read_bytes() == noise(SIZE)
    assert source.status() == "running"
    migrated(source, target, f"migrate -d {uri}")


def test_a_destination_image_that_somebody_uses_is_not_written(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    user = lab.start("user", *drive(lab.folder / "target.img"))
    source.quietly(f"migrate -d blk {uri}")
    assert "Failed to get" in source.wait_migration("failed")
    assert (lab.folder / "target.img").read_bytes() == bytes(SIZE)
    user.close()
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("tcp:127.0.0.1:{port}", "Failed to connect to '127.0.0.1:{port}': Connection refused"),
        ("unix:{folder}/nobody", "Failed to connect to 'unix:{folder}/nobody': No such file or directory"),
    ],
)
def test_a_place_where_nobody_listens(lab: Lab, where: str, why: str) -> None:
    places = {"port": str(free_port()), "folder": str(lab.folder)}
    source = lab.start("source", *drive(filled(lab.folder / "a", SIZE)))
    source.quietly(f"migrate -d blk {where.format_map(places)}")
    assert source.wait_migration("failed") == f"failed ({why.format_map(places)})"
    assert source.status() == "running"


def test_a_place_that_is_none(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a", SIZE)))
    for uri, why in (
        ("nonsense", "Parameter 'uri' expects a valid migration protocol"),
        ("tcp:nonsense", "error parsing address 'nonsense'"),
        ("rdma:a:1", "Migration by 'rdma:' is not supported: use tcp:HOST:PORT or unix:PATH"),
        ("unix:", "invalid Unix socket address"),
    ):
        assert source.command(f"migrate -d blk {uri}") == f"Error: {why}"
    assert (source.migration(), source.status()) == ("none", "running")


def test_a_machine_without_a_drive_has_nothing_to_move(lab: Lab) -> None:
    source = lab.start("source")
    assert source.command("migrate -d tcp:0:4444").startswith("Error: ")
    assert source.status() == "running"


def hello(size: int, *, name: str = "d0") -> bytes:
    """The beginning of a migration of one drive."""
    offer = Offer(uuid4(), Mode.FULL, (DriveOffer(name, size, False),))
    writer = RecordWriter()
    writer.raw(PREAMBLE + section_start())
    writer.hello(offer.encode())
    writer.end()
    writer.raw(section_footer())
    return b"".join(bytes(piece) for piece in writer.buffers)


def said_since(qmon: Qmon, before: int) -> list[str]:
    """The lines of its log that came behind the first ``before``, when there are any."""
    eventually(lambda: len(qmon.log().splitlines()) > before, f"{qmon.name} says what happened")
    return qmon.log().splitlines()[before:]


def test_strangers_at_the_incoming_port_keep_nobody_out(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    whole = hello(SIZE)
    for said in (b"GET / HTTP/1.1\r\n\r\n", bytes(4096), whole[:4] + b"\xff" * 200, noise(10 * MIB)):
        before = len(target.log().splitlines())
        with visitor(uri) as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(said)
            drained(sock)
        (line,) = said_since(target, before)
        assert re.fullmatch(r"qmon: incoming migration: connection from .* closed: not a valid .*", line)
    with visitor(uri):
        pass
    target.wait_log("the connection ended before a migration was offered")
    with visitor(uri), visitor(uri, whole[: len(whole) // 2]), visitor(uri, whole[:3]):
        assert target.status() == "paused (inmigrate)"
        migrated(source, target, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_of_two_sources_at_once_one_is_taken(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth="64k")
    other = lab.start("other", *drive(filled(lab.folder / "other.img", SIZE, 2)))
    other.export("d0")
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("active")
    other.quietly(f"migrate -d blk {uri}")
    assert other.wait_migration("failed") == "failed (another incoming migration is under way)"
    (line,) = said_since(target, 0)
    assert "closed: another incoming migration is under way" in line
    assert other.status() == "running"
    source.quietly("migrate_set_parameter max-bandwidth 4G")
    source.wait_migration("completed")
    assert same(lab.folder / "source.img", lab.folder / "target.img")
    target.wait_status("running")
    other.quietly(f"migrate -d blk {uri}")
    why = "the destination already runs: an earlier migration has completed"
    assert other.wait_migration("failed") == f"failed ({why})"
    assert other.status() == "running"


def test_a_source_that_says_hello_and_dies_makes_room_for_the_next(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    with visitor(uri, hello(SIZE)):
        target.wait_migration("active")
        assert "d0" in target.command("info block")
    target.wait_migration("failed")
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_full_disk_at_the_destination_ends_the_migration_not_the_source(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    unlimited = resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE, (MIB, unlimited[1]))
    source.quietly(f"migrate -d blk {uri}")
    status = source.wait_migration("failed")
    why = r"drive 'd0': write of \d+ bytes at \d+ failed at the destination: File too large"
    assert re.search(why, status)
    assert source.status() == "running"
    target.wait_log("the images here are partial")
    resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE, unlimited)
    with source.guest() as guest:
        guest.write(MIB, noise(512, 8))
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")
    assert Path(lab.folder / "target.img").read_bytes()[MIB : MIB + 512] == noise(512, 8)
