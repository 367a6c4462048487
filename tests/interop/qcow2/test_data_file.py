"""qcow2 images whose data lies in a file of its own, as QEMU makes, reads and judges them."""

from __future__ import annotations

import errno
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from qmon.block import image_file
from qmon.block.file import FileNode
from qmon.block.image import open_image
from qmon.block.node import Buffer, Kind
from qmon.block.qcow2.node import Qcow2Node
from tests.support.images import noise
from tests.support.locks_probe import locked_bytes
from tests.support.peers import require
from tests.support.qcow2_images import check, content, read, run, run_io

SIZE = (2 << 20) + 512


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


@dataclass(frozen=True)
class Disk:
    image: Path
    data: Path
    held: bytes


def make(folder: Path, *, cluster_size: int = 65536, raw: bool = False, backed: bool = False) -> Disk:
    image, data = folder / "disk.qcow2", folder / "data.img"
    options = f"cluster_size={cluster_size},data_file={data},data_file_raw={'on' if raw else 'off'}"
    held = bytearray(SIZE)
    more: list[str] = []
    if backed:
        held[: 1 << 20] = noise(1 << 20)
        (folder / "base").write_bytes(held[: 1 << 20])
        more = ["-b", "base", "-F", "raw"]
    run("create", "-q", "-f", "qcow2", "-o", options, *more, image, SIZE)
    run_io(image, "write -P 7 100k 300k", "write -z 200k 100k")
    held[100 << 10 : 400 << 10] = b"\7" * (300 << 10)
    held[200 << 10 : 300 << 10] = bytes(100 << 10)
    return Disk(image, data, bytes(held))


@pytest.mark.parametrize(("raw", "backed"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("cluster_size", [512, 65536])
def test_a_disk_holds_what_was_last_put_there(
    tmp_path: Path, cluster_size: int, raw: bool, backed: bool
) -> None:
    disk = make(tmp_path, cluster_size=cluster_size, raw=raw, backed=backed)
    node = open_image(str(disk.image), "qcow2")
    assert read(node) == disk.held
    model, chance = bytearray(disk.held), random.Random(cluster_size + raw + 2 * backed)
    for _ in range(80):
        offset = chance.randrange(SIZE)
        length = min(SIZE - offset, chance.choice([1, 512, 5000, 65536, 300_000]))
        if chance.random() < 0.5:
            offset -= offset % cluster_size
        stop = offset + length
        match chance.choice("wwwzudfr"):
            case "w":
                model[offset:stop] = chance.randbytes(length)
                node.write(offset, model[offset:stop])
            case "z" | "u" as call:
                model[offset:stop] = bytes(length)
                node.zero(offset, length, unmap=call == "u")
            case "d":
                node.discard(offset, length)
                left = read(node, offset, length)
                assert all(now in (0, was) for now, was in zip(left, model[offset:stop], strict=True))
                model[offset:stop] = left
            case "f":
                node.flush()
            case "r":
                node.close()
                node = open_image(str(disk.image), "qcow2")
        assert read(node) == model
    node.close()
    check(disk.image)
    assert content(disk.image) == model
    assert f"data file raw: {'true' if raw else 'false'}" in run("info", disk.image)
    if raw:
        assert disk.data.read_bytes()[:SIZE].ljust(SIZE, b"\0") == model, "it is the disk, to all who read it"
    assert disk.image.stat().st_size < 600 << 10, "the data is not in the image"


def test_the_data_file_is_locked_as_the_image_is(tmp_path: Path) -> None:
    disk = make(tmp_path)
    node = open_image(str(disk.image), "qcow2")
    assert locked_bytes(disk.data) == locked_bytes(disk.image) == {100, 101, 103, 201, 203}
    words = ["qemu-io", "-f", "raw", "-c", "write 0 512", str(disk.data)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "lock" in done.stderr
    node.close()
    node = open_image(str(disk.image), "qcow2", read_only=True)
    assert locked_bytes(disk.data) == locked_bytes(disk.image) == {100, 201, 203}
    node.close()
    assert locked_bytes(disk.data) == set()


def test_it_backs_another_image(tmp_path: Path) -> None:
    disk = make(tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run("create", "-q", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", overlay)
    node = open_image(str(overlay), "qcow2")
    assert locked_bytes(disk.data) == {100, 201, 203}
    node.write(150 << 10, b"x" * 512)
    held = bytearray(disk.held)
    held[150 << 10 : (150 << 10) + 512] = b"x" * 512
    assert read(node) == held
    node.close()
    assert content(disk.image) == disk.held


def test_the_file_is_looked_for_where_qemu_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name begins at the current folder, not at the image's."""
    monkeypatch.chdir(tmp_path)
    run("create", "-q", "-f", "qcow2", "-o", "data_file=data.img", "disk.qcow2", "1M")
    open_image("disk.qcow2", "qcow2").close()
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    done = subprocess.run(["qemu-io", "../disk.qcow2"], capture_output=True, text=True, check=False, input="")
    assert "Could not open 'data.img': No such file or directory" in done.stderr
    with pytest.raises(OSError, match=r"Could not open 'data.img': No such file or directory"):
        open_image("../disk.qcow2", "qcow2")
    assert locked_bytes(tmp_path / "disk.qcow2") == set()


def test_what_such_an_image_can_not_do_is_refused(tmp_path: Path) -> None:
    disk = make(tmp_path, raw=True)
    node = open_image(str(disk.image), "qcow2")
    assert isinstance(node, Qcow2Node)
    with pytest.raises(OSError, match="raw external data file"):
        node.resize(4 << 20)
    node.close()
    check(disk.image)


def test_an_entry_that_names_another_place_is_damage(tmp_path: Path) -> None:
    disk = make(tmp_path)
    image = bytearray(disk.image.read_bytes())
    l1 = int.from_bytes(image[40:48])
    l2 = int.from_bytes(image[l1 : l1 + 8]) & 0x00FFFFFFFFFFFE00
    image[l2 + 16 : l2 + 24] = (1 << 63 | 5 << 16).to_bytes(8)
    disk.image.write_bytes(image)
    node = open_image(str(disk.image), "qcow2")
    with pytest.raises(OSError, match="a wrong offset in the data file") as failure:
        read(node, 128 << 10, 512)
    assert failure.value.errno == errno.EIO
    node.close()
    assert "corrupt: true" in run("info", disk.image)


def test_data_is_on_stable_storage_before_a_table_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make(tmp_path)
    calls: list[str] = []

    class Noted(FileNode):
        def write(self, offset: int, data: Buffer) -> None:
            calls.append(f"write {Path(self.path).name}")
            super().write(offset, data)

        def flush(self) -> None:
            calls.append(f"flush {Path(self.path).name}")
            super().flush()

    monkeypatch.setattr(image_file, "FileNode", Noted)
    node = open_image(str(disk.image), "qcow2")
    node.write(1 << 20, b"x" * 65536)
    node.flush()
    node.close()
    written = calls.index("write data.img")
    assert calls.index("flush data.img", written) < calls.index("write disk.qcow2", written)


def test_unallocated_parts_are_told(tmp_path: Path) -> None:
    disk = make(tmp_path, backed=True)
    node = open_image(str(disk.image), "qcow2", read_only=True)
    kinds = {extent.offset >> 16: extent.kind for extent in node.extents(0, SIZE)}
    assert kinds[0] is Kind.BACKING
    assert kinds[1] is Kind.DATA
    node.close()
