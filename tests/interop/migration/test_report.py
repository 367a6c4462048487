"""``migrate_report``: one page about a migration, on either side, in every state, that a browser shows."""

from __future__ import annotations

import os
import stat
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

from tests.support.browser import Colour, colours, picture
from tests.support.images import MIB, blank, drive, filled
from tests.support.processes import Lab, Qmon, migrated
from tests.support.wire import doubt

SIZE = 4 * MIB


def report(side: Qmon, path: Path) -> ElementTree.Element:
    """The page that a side writes, read as XML, which it is too."""
    side.quietly(f"migrate_report {path}")
    return ElementTree.fromstring(path.read_text())


def texts(page: ElementTree.Element) -> str:
    return " ".join(page.itertext())


def plots(page: ElementTree.Element) -> list[str]:
    return [each.get("aria-label", "") for each in page.iter("svg")]


def pair(lab: Lab, **options: str) -> tuple[Qmon, Qmon, str]:
    image, empty = filled(lab.folder / "a", SIZE), blank(lab.folder / "b", SIZE)
    return lab.pair(drive(image), drive(empty), **options)


def test_both_sides_tell_of_a_migration_that_has_completed(lab: Lab) -> None:
    source, target, uri = pair(lab)
    for side in (source, target):
        side.quietly("migrate_set_capability multifd on")
        side.quietly("migrate_set_capability x-qmon-forward off")
    assert source.command(f"migrate_report {lab.folder / 'none.html'}") == (
        "Error: There is nothing to report: there was no migration"
    )
    migrated(source, target, f"migrate -d blk {uri}")
    here, there = report(source, lab.folder / "here.html"), report(target, lab.folder / "there.html")
    assert plots(here)[:3] == ["The states", "Sent per second", "Left to send"]
    assert plots(there)[:3] == ["The states", "Received per second", "Left to send"]
    assert "The switchover" in plots(here)
    for page in (here, there):
        assert all(len(each.get("points", "").split()) > 2 for each in page.iter("polyline"))
        assert "checksums of every record" in texts(page)
        assert "Checksums as sent and as applied are equal: 4 MiB" in texts(page)
        assert not {"script", "link", "img", "iframe", "object"} & {each.tag for each in page.iter()}
    assert "The disks were moved" in texts(here)
    assert "The disks have arrived" in texts(there)
    assert uri in texts(here)
    for meant in (
        "prepared: the destination has every byte",
        "gone: the destination is told to run",
        "0 B were written meanwhile",
    ):
        assert meant in texts(here)
    for each in ("multifd-channels", "multifd-compression", "multifd, x-qmon-forward off"):
        assert each in texts(here)
    for only_a_source_has in ("Rounds", "max-bandwidth"):
        assert only_a_source_has in texts(here)
        assert only_a_source_has not in texts(there)


@pytest.mark.parametrize(("line", "status"), [("", "active"), ("migrate_cancel", "cancelled")])
def test_it_tells_of_one_that_is_under_way_or_was_cancelled(lab: Lab, line: str, status: str) -> None:
    source, target, uri = pair(lab, bandwidth="64k")
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("active")
    if line:
        source.quietly(line)
        source.wait_migration(status)
        target.wait_migration("failed")
        assert "images here may be partial" in texts(report(target, lab.folder / "there.html"))
    page = report(source, lab.folder / "here.html")
    assert page.find(".//p[@class='status " + status + "']") is not None
    assert "Left" in texts(page)


def test_a_failure_says_its_reason_and_a_strange_name_stays_text(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a", SIZE)))
    nobody = lab.folder / "<script>alert(1)<&'"
    assert source.command(f'migrate blk "unix:{nobody}"').startswith("Error: Failed to connect")
    page = report(source, lab.folder / "here.html")
    assert str(nobody) in texts(page)
    assert not list(page.iter("script"))
    assert "Failed to connect" in texts(page)


def test_a_file_is_replaced_by_a_report_only_if_it_is_one(lab: Lab) -> None:
    source, target, uri = pair(lab)
    migrated(source, target, f"migrate -d blk {uri}")
    path, image = lab.folder / "here.html", lab.folder / "a"
    source.quietly(f"migrate_report {path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (lab.folder / "link.html").symlink_to(path)
    before = path.stat().st_ino
    source.quietly(f"migrate_report {lab.folder / 'link.html'}")
    assert (path.stat().st_ino != before, (lab.folder / "link.html").is_symlink()) == (True, True)
    content = image.read_bytes()
    (lab.folder / "notes.html").write_text("<!DOCTYPE html>\nmine")
    os.mkfifo(lab.folder / "pipe")
    for other in (image, lab.folder / "notes.html", lab.folder / "pipe"):
        assert source.command(f"migrate_report {other}") == (
            f"Error: The report can't be written to '{other}': it exists, and is no such report:"
            " give another name"
        )
    assert image.read_bytes() == content
    missing = lab.folder / "no" / "here.html"
    said = f"Error: The report can't be written to '{missing}': No such file or directory"
    assert source.command(f"migrate_report {missing}") == said
    assert not [name for name in os.listdir(lab.folder) if name.startswith(".qmon-")]


def test_a_doubt_is_told(lab: Lab) -> None:
    source, _, _ = doubt(lab, heard=False)
    page = report(source, lab.folder / "here.html")
    assert page.find(".//p[@class='status doubt']") is not None
    assert "this side does not know whether the destination runs" in texts(page)


def test_a_browser_shows_its_plots_on_light_and_dark_screens(lab: Lab) -> None:
    source, _, uri = pair(lab, bandwidth="512k")
    source.export("d0")
    guest = source.guest()
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("active")
    guest.write(0, b"x" * MIB)
    source.quietly("migrate_set_parameter max-bandwidth 8M")
    source.wait_migration("completed")
    path = lab.folder / "here.html"
    report(source, path)
    for dark, back, first, third in (
        (False, (0xFF, 0xFF, 0xFF), (0x2A, 0x6F, 0xDB), (0x0F, 0x8A, 0x73)),
        (True, (0x14, 0x18, 0x1E), (0x6E, 0xA8, 0xFF), (0x4F, 0xD1, 0xB5)),
    ):
        picture(path, lab.folder / "page.png", dark=dark, size="800,900")
        found = colours(lab.folder / "page.png")
        assert found.most_common(1)[0][0] == back
        assert near(found, first) > 200, "the curve of the rate"
        assert near(found, third) > 200, "the curve of what is left"


def near(found: Counter[Colour], wanted: Colour) -> int:
    """How many pixels have nearly a colour: the edges of a line are softened."""
    return sum(
        count
        for colour, count in found.items()
        if sum(abs(one - other) for one, other in zip(colour, wanted, strict=True)) < 120
    )
