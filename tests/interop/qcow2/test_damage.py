"""Images with a wrong bit, or worse, in a header or table: refused, or read as QEMU reads them."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from qmon.block import image_file
from qmon.block.file import FileNode
from qmon.block.image import open_image
from qmon.block.node import Buffer
from qmon.block.qcow2.limits import LIMITS, Limits
from tests.fuzz.qcow2_shapes import SHAPES, make
from tests.fuzz.qcow2_trial import try_out
from tests.support.peers import require
from tests.support.qcow2_images import Recipe, check, read, run
from tests.support.thoroughness import a_chance

L1_OFFSET, REFCOUNT_TABLE_OFFSET = 40, 48
ADDRESS = 0x00FFFFFFFFFFFE00
DAMAGED_OF_EACH_SHAPE = 4


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_a_damaged_image_is_refused_or_used_as_qemu_uses_it(number: int, tmp_path: Path) -> None:
    """``make fuzz`` does it thousands of times."""
    require("qemu-img", "qemu-io")
    make(SHAPES[number], tmp_path)
    seed = a_chance(f"shape {number}").randrange(1_000_000) * len(SHAPES) + number
    for each in range(DAMAGED_OF_EACH_SHAPE):
        result = try_out(tmp_path, seed + each * len(SHAPES))
        assert not result.problems, f"seed {seed + each * len(SHAPES)}: {result.what}"


def test_an_image_that_is_found_damaged_is_marked_and_written_no_more(tmp_path: Path) -> None:
    """An L2 entry names the cluster of the L1 table."""
    image, _ = Recipe(65536, 1 << 20, content="data").make(tmp_path)
    data = bytearray(image.read_bytes())
    l1 = struct.unpack_from(">Q", data, L1_OFFSET)[0]
    l2 = struct.unpack_from(">Q", data, l1)[0] & ADDRESS
    struct.pack_into(">Q", data, l2, l1 | 1 << 63)
    image.write_bytes(data)
    node = open_image(str(image), "qcow2")
    with pytest.raises(OSError, match="image is damaged"):
        node.write(0, b"x" * 512)
    with pytest.raises(OSError, match="image is damaged"):
        node.write(128 << 10, b"x" * 512)
    assert read(node, 128 << 10, 512) == b"\7" * 512
    node.close()
    assert "corrupt: true" in run("info", image)
    with pytest.raises(OSError, match="Image is corrupt; cannot be opened read/write"):
        open_image(str(image), "qcow2")
    open_image(str(image), "qcow2", read_only=True).close()


@pytest.mark.parametrize("is_large", [False, True])
def test_a_cluster_that_is_used_and_not_counted_is_not_given_away(tmp_path: Path, is_large: bool) -> None:
    """Tables are looked at before the first write, or if they are large, before clusters are reused."""
    image, held = Recipe(65536, 1 << 20, content="data").make(tmp_path)
    data = bytearray(image.read_bytes())
    block = struct.unpack_from(">Q", data, struct.unpack_from(">Q", data, REFCOUNT_TABLE_OFFSET)[0])[0]
    used = struct.unpack_from(">Q", data, struct.unpack_from(">Q", data, L1_OFFSET)[0])[0] & ADDRESS
    cluster = (struct.unpack_from(">Q", data, used)[0] & ADDRESS) >> 16
    struct.pack_into(">H", data, block + 2 * cluster, 0)
    image.write_bytes(data)
    node = open_image(str(image), "qcow2", limits=Limits(checked_first=0) if is_large else LIMITS)
    if is_large:
        node.write(512 << 10, b"x" * 65536)
        node.discard(128 << 10, 64 << 10)
    with pytest.raises(OSError, match="image is damaged"):
        node.flush() if is_large else node.write(512 << 10, b"x" * 65536)
    assert read(node, 0, 65536) == held[:65536]
    node.close()


def test_a_backing_loop_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a.qcow2", tmp_path / "b.qcow2"
    run("create", "-q", "-f", "qcow2", first, "1M")
    run("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", second)
    run("rebase", "-u", "-b", "b.qcow2", "-F", "qcow2", first)
    with pytest.raises(OSError, match=r"Could not open backing file: .* creates an infinite loop"):
        open_image(str(first), "qcow2")


@pytest.mark.parametrize(
    ("head", "message"),
    [(b"KDMV" + bytes(508), "Unknown driver 'vmdk'"), (None, "Could not open '.*base': No such file")],
)
def test_a_backing_file_that_can_not_be_had_is_named(
    tmp_path: Path, head: bytes | None, message: str
) -> None:
    image = tmp_path / "disk.qcow2"
    run("create", "-q", "-u", "-f", "qcow2", "-b", "base", "-F", "raw", image, "1M")
    if head is not None:
        (tmp_path / "base").write_bytes(head)
        run("rebase", "-u", "-b", "base", "-F", "vmdk", image)
    with pytest.raises(OSError, match=f"Could not open backing file: {message}"):
        open_image(str(image), "qcow2")


def test_what_is_left_after_a_failed_write_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system is full for a while."""
    left = [1 << 30]

    class NoRoomError(OSError):
        pass

    class Full(FileNode):
        def write(self, offset: int, data: Buffer) -> None:
            if left[0] < len(data):
                raise NoRoomError(errno.ENOSPC, "No space left on device")
            left[0] -= len(data)
            super().write(offset, data)

    monkeypatch.setattr(image_file, "FileNode", Full)
    image, held = Recipe(4096, 1 << 20, content="snapshot").make(tmp_path)
    node = open_image(str(image), "qcow2")
    model = bytearray(held)
    for number in range(30):
        left[0] = 40000 if number % 3 else 1 << 30
        offset = number * 30000
        try:
            node.write(offset, bytes([number]) * 20000)
            model[offset : offset + 20000] = bytes([number]) * 20000
            node.flush()
        except NoRoomError:
            model[offset : offset + 20000] = read(node, offset, 20000)
    left[0] = 1 << 30
    assert read(node) == model
    node.close()
    check(image)
