"""What can't be done to a qcow2 image is refused in QEMU's words, or in clearer ones where QEMU does it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import MIB, drive
from tests.support.peers import require
from tests.support.processes import Lab
from tests.support.qcow2_images import run, run_io
from tests.support.two_monitors import TwoMonitors, differing, told


@pytest.fixture
def both(tmp_path: Path) -> Iterator[TwoMonitors]:
    require("qemu-system-x86_64", "qemu-img", "qemu-io")
    with TwoMonitors(tmp_path) as both:
        yield both


def folders(both: TwoMonitors) -> list[Path]:
    return [each.folder for each in (both.theirs, both.ours)]


def test_a_read_only_overlay_is_not_committed(both: TwoMonitors) -> None:
    for folder in folders(both):
        (folder / "base.img").write_bytes(bytes(MIB))
        run("create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", folder / "over.qcow2")
        run_io(folder / "over.qcow2", "write -P 1 0 64k")
    lines = ["drive_add 0 if=none,id=o,file=over.qcow2,readonly=on", "commit o", "commit all", "commit ro"]
    assert not (found := differing(both, lines)), told(found)
    assert [(folder / "base.img").read_bytes() for folder in folders(both)] == [bytes(MIB)] * 2


@pytest.mark.parametrize("cluster", [512, 4096])
def test_a_disk_grows_as_far_as_its_cluster_size_allows(cluster: int, both: TwoMonitors) -> None:
    largest = (32 << 20) // 8 * (cluster // 8) * cluster
    for folder in folders(both):
        run("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", folder / "d.qcow2", "1M")
    lines = ["drive_add 0 if=none,id=d,file=d.qcow2", f"block_resize d {largest + 1}B"]
    lines += [f"block_resize d {size}B" for size in (largest + 512, 5 << 60, largest, largest + 512)]
    assert not (found := differing(both, lines)), told(found)
    sizes = [json.loads(run("info", "-U", "--output=json", each / "d.qcow2")) for each in folders(both)]
    assert [each["virtual-size"] for each in sizes] == [largest] * 2


@pytest.mark.parametrize("command", ["savevm", "snapshot_blkdev_internal d0"])
def test_a_snapshots_name_that_an_image_can_not_keep_is_refused(command: str, lab: Lab) -> None:
    """QEMU cuts it off, and does not find by its name what it has made."""
    require("qemu-img")
    image = lab.folder / "d0.qcow2"
    run("create", "-q", "-f", "qcow2", image, "1M")
    qmon = lab.start("one", *drive(image, format="qcow2"))
    for name, size in (("n" * 256, 256), ("ä" * 200, 400)):
        wanted = f"Error: Snapshot name '{name[:32]}…' has {size} bytes: at most 255 bytes are allowed"
        assert qmon.command(f"{command} {name}") == wanted
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(20)
        monitor.connect(str(qmon.folder / "one.sock"))
        monitor.sendall(command.encode() + b" \xff\n")
        said = b""
        while said.count(b"(qemu) ") < 2:
            said += monitor.recv(4096)
    assert b"Error: Snapshot name is not UTF-8 text" in said
    kept = "ä" * 127 + "n"
    qmon.quietly(f"{command} {kept}", "drive_del d0")
    names = [each["name"] for each in json.loads(run("info", "--output=json", image))["snapshots"]]
    assert names == [kept]
    assert "Traceback" not in qmon.log()
