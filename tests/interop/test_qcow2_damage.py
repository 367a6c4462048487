"""Images with a wrong bit, or worse, in a header or table: refused, or read as QEMU reads them."""

from __future__ import annotations

import errno
import logging
import random
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from qmon.block.file import FileNode
from qmon.block.image import open_image
from qmon.block.node import Buffer
from qmon.block.qcow2 import node as qcow2_node
from tests.interop.peers import require
from tests.interop.qcow2_images import Recipe, check, read, run, run_io

SIZE = 700 << 10
L1_OFFSET, REFCOUNT_TABLE_OFFSET, SNAPSHOTS_OFFSET = 40, 48, 64
ADDRESS = 0x00FFFFFFFFFFFE00
DAMAGED_FOR_EACH_SEED = 4


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, bytes]]:
    """Good images with a snapshot, compressed, zero and plain clusters, each with its cluster size."""
    require("qemu-img", "qemu-io")
    folder = tmp_path_factory.mktemp("damage")
    made = []
    for number, (cluster_size, packed) in enumerate([(512, []), (4096, ["-c"]), (65536, [])]):
        raw, image = folder / "raw", folder / f"{number}.qcow2"
        raw.write_bytes(random.Random(3).randbytes(300 << 10) + b"ab" * (100 << 10) + bytes(200 << 10))
        run("convert", *packed, "-O", "qcow2", "-o", f"cluster_size={cluster_size}", raw, image)
        run_io(image, "write -z 64k 40k")
        run("snapshot", "-c", "s", image)
        run_io(image, "write -P 4 10k 10k")
        made.append((cluster_size, image.read_bytes()))
    return made


def damage(good: bytes, cluster_size: int, chance: random.Random) -> bytes:
    """Change a field of the header, or something in one of the tables."""

    def address(offset: int) -> int:
        return int(struct.unpack_from(">Q", good, offset)[0]) & ADDRESS

    image = bytearray(good)
    l1, refcount_table = address(L1_OFFSET), address(REFCOUNT_TABLE_OFFSET)
    l2, block = address(l1), address(refcount_table)
    start, length = chance.choice(
        [
            (0, 112),
            (0, 112),
            (0, 512),
            (l1, 24),
            (l2, min(cluster_size, 800)),
            (refcount_table, 16),
            (block, min(cluster_size, 400)),
            (address(SNAPSHOTS_OFFSET), 60),
        ]
    )
    place = start + chance.randrange(length)
    match chance.choice(["bit", "byte", "number"]):
        case "bit":
            image[place] ^= 1 << chance.randrange(8)
        case "byte":
            image[place] = chance.choice([0, 1, 255])
        case "number":
            names = [0, 1, cluster_size, l1, l2, block, refcount_table, 1 << 40, len(good) + cluster_size]
            number = chance.choice([*names, *(name | 1 << 63 for name in names), chance.getrandbits(64)])
            struct.pack_into(">Q", image, place // 8 * 8, number)
    return bytes(image[: chance.randrange(len(image))] if chance.random() < 0.1 else image)


def read_all(image: Path) -> bytes | None:
    """What is read of a damaged image, None when it or a part of it is refused."""
    try:
        node = open_image(str(image), "qcow2", read_only=True, lock=False)
    except OSError:
        return None
    try:
        if node.size > 64 << 20:
            return None
        list(node.extents(0, node.size))
        return read(node)
    except OSError:
        return None
    finally:
        node.close()


def use(image: Path, chance: random.Random) -> None:
    """Write until something is refused; what was taken until then is there."""
    try:
        node = open_image(str(image), "qcow2", lock=False)
    except OSError:
        return
    try:
        size = min(node.size, SIZE)
        held = bytearray(read(node, 0, size))
        for _ in range(12):
            offset, length = chance.randrange(max(1, size - 8192)), min(size, 8192)
            data = chance.randbytes(length)
            if chance.random() < 0.3:
                data = bytes(length)
                node.zero(offset, length)
            else:
                node.write(offset, data)
            held[offset : offset + length] = data
            if chance.random() < 0.3:
                node.flush()
            assert read(node, 0, size) == held
    except OSError:
        pass
    finally:
        node.close()


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_image_is_refused_or_read_as_qemu_reads_it(
    images: list[tuple[int, bytes]], seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as name:
        image, raw = Path(name, "disk.qcow2"), Path(name, "raw")
        for _ in range(DAMAGED_FOR_EACH_SEED):
            cluster_size, good = chance.choice(images)
            image.write_bytes(damage(good, cluster_size, chance))
            ours = read_all(image)
            if ours is not None:
                words = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(raw)]
                if subprocess.run(words, capture_output=True, check=False).returncode == 0:
                    assert ours == raw.read_bytes()
            use(image, chance)


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


def test_a_cluster_that_is_used_and_not_counted_is_not_given_away(tmp_path: Path) -> None:
    image, held = Recipe(65536, 1 << 20, content="data").make(tmp_path)
    data = bytearray(image.read_bytes())
    block = struct.unpack_from(">Q", data, struct.unpack_from(">Q", data, REFCOUNT_TABLE_OFFSET)[0])[0]
    used = struct.unpack_from(">Q", data, struct.unpack_from(">Q", data, L1_OFFSET)[0])[0] & ADDRESS
    cluster = (struct.unpack_from(">Q", data, used)[0] & ADDRESS) >> 16
    struct.pack_into(">H", data, block + 2 * cluster, 0)
    image.write_bytes(data)
    node = open_image(str(image), "qcow2")
    node.write(512 << 10, b"x" * 65536)
    node.discard(128 << 10, 64 << 10)
    with pytest.raises(OSError, match="image is damaged"):
        node.flush()
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

    monkeypatch.setattr(qcow2_node, "FileNode", Full)
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
