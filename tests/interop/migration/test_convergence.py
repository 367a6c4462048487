"""Guests that write faster than their disk is sent: what makes the migration converge, and its price."""

from __future__ import annotations

from tests.support.guests import WritingGuest
from tests.support.images import MIB, blank, drive, noise
from tests.support.processes import Lab, Qmon
from tests.support.waiting import eventually

SIZE = MIB
LINE = "2M"


def throttle(source: Qmon) -> int:
    """By how many per cent guests' writes are held back, 0 if they are not."""
    return int(source.figures().get("cpu throttle percentage", 0))


def held_back(lab: Lab, initial: int, bandwidth: str) -> tuple[Qmon, Qmon, str]:
    """A pair that has auto-converge hold back so much at first.

    The disk is empty: the first pass, before anything is held back, is short, and what a guest writes
    everywhere takes seconds to send.
    """
    images = [blank(lab.folder / f"{side}.img", SIZE) for side in ("source", "target")]
    source, target, uri = lab.pair(*map(drive, images), bandwidth=bandwidth)
    source.export("d0")
    target.export("d0")
    source.quietly(
        "migrate_set_capability auto-converge on",
        f"migrate_set_parameter cpu-throttle-initial {initial}",
        "migrate_set_parameter downtime-limit 100",
    )
    return source, target, uri


def guest_of(*sides: Qmon) -> WritingGuest:
    """A guest that writes at most 3 MiB/s, of which a hundredth is less than a line takes."""
    return WritingGuest([side.nbd for side in sides], bytes(SIZE), pause=0.005)


def test_auto_converge_slows_a_guest_until_its_disk_arrives(lab: Lab) -> None:
    source, target, uri = held_back(lab, 98, "256k")
    with guest_of(source, target) as guest:
        guest.wait_for(3)
        source.quietly(f"migrate -d blk {uri}")
        source.wait_migration("completed")
        guest.wait_for(50)
    assert "guests' writes are held back by 98 %" in source.command("info migrate -t")
    assert guest.error is None
    assert (lab.folder / "target.img").read_bytes() == guest.content
    assert throttle(source) == 0


def test_a_cancel_lets_guests_write_as_before(lab: Lab) -> None:
    source, _, uri = held_back(lab, 99, "64k")
    with guest_of(source) as guest:
        guest.wait_for(3)
        source.quietly(f"migrate -d blk {uri}")
        eventually(lambda: throttle(source) == 99, "writes are held back")
        source.quietly("migrate_cancel")
        source.wait_migration("cancelled")
        assert throttle(source) == 0
        guest.wait_for(200)  # held back it did one a second
    assert guest.error is None
    assert (lab.folder / "source.img").read_bytes() == guest.content


def test_write_blocking_moves_a_guest_that_outruns_its_line(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth=LINE)
    source.quietly(
        "migrate_set_parameter x-qmon-copy-mode write-blocking", "migrate_set_parameter downtime-limit 50"
    )
    exports, half = [source.nbd, target.nbd], SIZE // 2
    guests = [WritingGuest(exports, noise(SIZE)[base : base + half], base) for base in (0, half)]
    with guests[0], guests[1]:
        guests[0].wait_for(20)
        source.quietly(f"migrate -d blk {uri}")
        source.wait_migration("completed")
        for guest in guests:
            guest.wait_for(50)
    assert [guest.error for guest in guests] == [None, None]
    expected = b"".join(bytes(guest.content) for guest in guests)
    assert (lab.folder / "target.img").read_bytes() == expected


def test_a_copy_that_never_ends_can_become_write_blocking(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth=LINE)
    source.quietly("migrate_set_parameter downtime-limit 20")
    with WritingGuest([source.nbd, target.nbd], noise(SIZE)) as guest:
        source.quietly(f"migrate -d blk {uri}")
        eventually(lambda: int(source.figures().get("dirty sync count", 0)) > 0, "the first pass")
        source.quietly("migrate_set_parameter x-qmon-copy-mode write-blocking")
        source.wait_migration("completed")
        guest.wait_for(50)
    assert guest.error is None
    assert (lab.folder / "target.img").read_bytes() == guest.content
