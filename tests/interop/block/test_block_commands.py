"""Commands about drives on real processes: what becomes of the images, the guests and the locks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.locks_probe import locked_bytes
from tests.support.peer import three_drives
from tests.support.peers import require
from tests.support.processes import Lab, Qmon
from tests.support.qmp_client import QmpClient
from tests.support.two_monitors import TwoMonitors, differing, told
from tests.support.waiting import PATIENCE, eventually

REFUSALS = """\
block_resize d0 -1
block_resize d0 99999999999E
block_resize d0 9223372035781034496B
block_resize d0 9223372036854775807B
eject d0 d1
change d0
block_set_io_throttle d0 1
snapshot_blkdev
block_stream d0 -1
drive_mirror d0
drive_backup -x d0 copy.img
qemu-io
qemu-io d0
qemu-io d0 read 0 512
savevm a b
loadvm
commit
""".splitlines()


@pytest.fixture
def one(lab: Lab) -> Qmon:
    """A qmon with 16 MiB of noise as d0."""
    return lab.start("one", *drive(filled(lab.folder / "d0.img", 16 * MIB)))


def test_lines_that_lack_something_are_refused_in_qemus_words(tmp_path: Path) -> None:
    require("qemu-system-x86_64", "qemu-img")
    with TwoMonitors(tmp_path, drives=three_drives) as monitors:
        assert not (found := differing(monitors, REFUSALS)), told(found)


def test_an_image_grows_with_zeros_and_shrinks(one: Qmon, lab: Lab) -> None:
    image = lab.folder / "d0.img"
    before = image.read_bytes()
    one.quietly("block_resize d0 20M")
    assert image.read_bytes() == before + bytes(4 * MIB)
    one.quietly("block_resize d0 1000B")
    assert image.read_bytes() == before[:1000]
    assert one.command("qemu-io d0 length") == "1 KiB"
    assert locked_bytes(image) == {100, 101, 201}
    one.export("d0")
    with one.guest() as guest:
        assert guest.read(0, 1024) == before[:1000] + bytes(24)


def test_a_guest_keeps_the_size_that_it_was_told(one: Qmon) -> None:
    one.export("d0")
    with one.guest() as guest:
        assert "permissions 'resize' are both required" in one.command("block_resize d0 1M")
        assert len(guest.read(15 * MIB, MIB)) == MIB
    one.quietly("nbd_server_remove -f d0", "block_resize d0 1M")


def test_a_stopped_machines_disk_can_be_resized(one: Qmon) -> None:
    one.quietly("stop", "block_resize d0 20M", "cont")
    assert one.command("qemu-io d0 length") == "20 MiB"


def test_while_it_is_moved_a_drive_is_not_changed(lab: Lab) -> None:
    source, _, uri = lab.disk_pair(bandwidth="100k")
    source.quietly(f"migrate -d -b {uri}")
    source.wait_migration("active")
    busy = "Error: Node 'd0' is busy: block device is in use by migration"
    other = blank(lab.folder / "other.img", MIB)
    source.quietly("nbd_server_remove -f d0")
    assert source.command("block_resize d0 1M") == busy
    assert source.command("eject d0") == busy
    assert source.command(f"change d0 {other} raw") == busy
    assert source.command("drive_del d0") == busy.removeprefix("Error: ")
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")
    source.quietly("eject d0")


def test_what_a_monitor_writes_is_moved_too(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(bandwidth="100k")
    source.quietly(f"migrate -d -b {uri}")
    source.wait_migration("active")
    for number in range(20):
        answer = source.command(f'qemu-io d0 "write -P {number + 1} {number}k 1k"')
        assert answer.startswith("wrote 1024/1024 bytes")
    source.quietly("migrate_set_parameter max-bandwidth 0")
    source.wait_migration("completed")
    target.wait_migration("completed")
    assert same(lab.folder / "source.img", lab.folder / "target.img")
    for number in range(20):
        answer = target.command(f'qemu-io d0 "read -P {number + 1} {number}k 1k"')
        assert answer.startswith("read 1024/1024 bytes"), answer
    assert "the disk has moved" in source.command('qemu-io d0 "write 0 512"')


def test_what_arrives_is_not_written_to_by_a_monitor(lab: Lab) -> None:
    """Written over, it would be said to have arrived whole."""
    source, target, uri = lab.disk_pair(bandwidth="250k")
    refused = "Block node is read-only"
    assert target.command('qemu-io d0 "write 0 512"') == refused  # nor where a migration is waited for
    source.quietly(f"migrate -d blk {uri}")
    eventually(lambda: target.migration() == "active", "data arrive")
    eventually(lambda: (lab.folder / "target.img").read_bytes()[:MIB].strip(b"\0"), "some have arrived")
    for line in ("write -P 7 0 64k", "write -z 0 64k", "discard 0 64k", "aio_write 0 512", "writev 0 512"):
        assert target.command(f'qemu-io d0 "{line}"') == refused
    assert target.command('qemu-io d0 "read 0 512"').startswith("read 512/512 bytes at offset 0\n")
    source.quietly("migrate_set_parameter max-bandwidth 0")
    source.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "source.img", lab.folder / "target.img")
    assert target.command('qemu-io d0 "write 0 512"').startswith("wrote 512/512")


def test_a_stopped_machines_disk_is_written_by_its_monitor(one: Qmon, lab: Lab) -> None:
    one.quietly("stop")
    assert one.command('qemu-io d0 "write -P 7 4k 1k"').startswith("wrote 1024/1024")
    assert (lab.folder / "d0.img").read_bytes()[4096:5120] == b"\7" * 1024
    assert one.status() == "paused"


def test_an_ejected_image_is_free_and_its_guests_are_sent_away(one: Qmon, lab: Lab) -> None:
    one.export("d0")
    other = filled(lab.folder / "other.img", MIB, seed=2)
    with one.guest() as guest:
        guest.write(0, b"last" * 128)
        one.quietly("eject d0")
        with pytest.raises(OSError, match=r"closed|reset|Broken pipe"):
            guest.read(0, 512)
    assert (lab.folder / "d0.img").read_bytes()[:512] == b"last" * 128
    assert locked_bytes(lab.folder / "d0.img") == set()
    one.quietly(f"change d0 {other} raw", "nbd_server_add -w d0")
    with one.guest() as guest:
        assert guest.read(0, MIB) == noise(MIB, 2)
    assert locked_bytes(other) == {100, 101, 201}


def test_the_old_image_stays_where_the_new_one_can_not_be_had(one: Qmon, lab: Lab) -> None:
    other = blank(lab.folder / "other.img", MIB)
    lab.start("holder", *drive(other, "x"))
    one.export("d0")
    with one.guest() as guest:
        assert 'Failed to get "write" lock' in one.command(f"change d0 {other} raw")
        assert one.command(f"change d0 {lab.folder}/absent").endswith("No such file or directory")
        assert guest.read(0, 512) == noise(16 * MIB)[:512]


def test_an_image_can_be_changed_for_itself(one: Qmon, lab: Lab) -> None:
    image = lab.folder / "d0.img"
    one.quietly(f"change d0 {image} raw read-only")
    assert locked_bytes(image) == {100, 201}
    assert one.command('qemu-io d0 "write 0 512"') == "Block node is read-only"


def test_a_machine_without_media_runs_on(one: Qmon) -> None:
    one.quietly("eject d0", "stop", "cont")
    assert "has no drives" in one.command("migrate -d -b unix:/nowhere")
    assert one.command("nbd_server_start -a unix:never.sock") == ""
    one.quietly("nbd_server_stop")


def test_guests_requests_are_counted(one: Qmon) -> None:
    one.export("d0")
    with one.guest() as guest:
        guest.write(0, b"x" * 4096)
        guest.write(0, b"x" * (3 * MIB))
        guest.read(0, 8192)
        guest.read(0, 512)
        guest.flush()
    eventually(lambda: "flush_operations=1 " in one.command("info blockstats"), "the flush is counted")
    wanted = "d0: rd_bytes=8704 wr_bytes=3149824 rd_operations=2 wr_operations=2 flush_operations=1 "
    said = one.command("info blockstats")
    assert said.startswith(wanted)
    times = dict(part.split("=") for part in said.split()[1:])
    assert all(int(times[f"{kind}_total_time_ns"]) > 0 for kind in ("rd", "wr", "flush"))


def test_what_is_throttled_does_not_keep_the_machine_from_stopping(one: Qmon) -> None:
    one.export("d0")
    one.quietly("block_set_io_throttle d0 0 0 1 0 0 0")
    with one.guest() as guest:
        guest.write(0, b"a" * 4096)
        late = threading.Thread(target=guest.write, args=(4096, b"b" * 4096))
        late.start()
        one.quietly("stop", "cont", "block_set_io_throttle d0 0 0 0 0 0 0")
        late.join(PATIENCE)
        assert not late.is_alive()
        assert guest.read(0, 8192) == b"a" * 4096 + b"b" * 4096


def test_a_throttled_disk_is_moved_at_full_speed(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(bandwidth="0")
    source.quietly("block_set_io_throttle d0 1 0 0 0 0 0", f"migrate -d -b {uri}")
    source.wait_migration("completed")
    target.wait_migration("completed")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_job_that_has_nothing_to_copy_is_told_from_its_beginning_to_its_end(one: Qmon) -> None:
    with QmpClient(one.qmp_path) as client:
        assert client.run("block-stream", device="d0") == {}
        events = client.events
        answer = client.ask("block-job-cancel", device="d0")
    states = [event["data"]["status"] for event in events if event["event"] == "JOB_STATUS_CHANGE"]
    assert states == ["created", "running", "waiting", "pending", "concluded", "null"]
    assert answer["error"] == {"class": "DeviceNotActive", "desc": "Block job 'd0' not found"}


def test_nothing_is_created_for_a_copy_that_is_refused(one: Qmon, lab: Lab) -> None:
    before = sorted(lab.folder.iterdir())
    for line in ("drive_mirror d0", "drive_backup d0"):
        assert one.command(f"{line} {lab.folder}/copy.img").startswith("Error: ")
    assert sorted(lab.folder.iterdir()) == before


def test_nodes_can_be_told_without_the_images_behind_them(one: Qmon, lab: Lab) -> None:
    """QEMU then counts none of these either."""
    one.quietly(f"snapshot_blkdev d0 {lab.folder / 'top.qcow2'}")
    shown = {
        flat: sorted(
            (each["backing_file_depth"], "backing-image" in each["image"])
            for each in one.qmp("query-named-block-nodes", flat=flat)
        )
        for flat in (False, True)
    }
    assert shown == {False: [(0, False)] * 3 + [(1, True)], True: [(0, False)] * 4}
