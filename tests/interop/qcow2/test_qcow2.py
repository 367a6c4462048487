"""qcow2 images against a model of their bytes, with qemu-img as the judge of what is left."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block import image_file
from qmon.block.bitmaps import BitmapFilter
from qmon.block.file import FileNode
from qmon.block.image import open_image
from qmon.block.node import Buffer, Kind, Node
from tests.support.bitmaps import dirty
from tests.support.peers import require
from tests.support.qcow2_images import CLUSTER_SIZES, Recipe, check, content, read, recipes, run, run_io
from tests.support.qcow2_model import CALLS, CHAIN_CALLS, SNAPSHOT_CALLS, Disk, Step, put_through, steps
from tests.support.thoroughness import examples


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="qmon-test-"))
    yield path
    shutil.rmtree(path)


@settings(max_examples=examples(20))
@given(recipes(), st.lists(steps(CALLS | SNAPSHOT_CALLS | CHAIN_CALLS), min_size=1, max_size=30))
def test_a_disk_holds_what_was_last_put_there(recipe: Recipe, todo: list[Step]) -> None:
    put_through(recipe, todo)


@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_what_qemu_compressed_is_read_and_overwritten(folder: Path, cluster_size: int, compat: str) -> None:
    raw, image = folder / "raw", folder / "disk.qcow2"
    held = random.Random(1).randbytes(1 << 20) + b"abc" * 400_000 + bytes(1 << 20) + b"x" * 1000
    held += bytes(-len(held) % 512)
    raw.write_bytes(held)
    run("convert", "-c", "-O", "qcow2", "-o", f"cluster_size={cluster_size},compat={compat}", raw, image)
    disk = Disk(image, held)
    for number in range(40):
        disk.do(Step("write" if number % 4 else "discard", number / 40, 3000, number))
    disk.check()


def test_zstd_is_read_where_its_package_is_there(folder: Path) -> None:
    raw, image = folder / "raw", folder / "disk.qcow2"
    raw.write_bytes(b"abcd" * 100_000 + bytes(-400_000 % 512))
    run("convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", raw, image)
    try:
        import zstandard  # noqa: F401  # only whether it is there
    except ImportError:
        with pytest.raises(OSError, match="install the Python package zstandard"):
            open_image(str(image), "qcow2")
        return
    Disk(image, raw.read_bytes()).check()


def test_a_large_disk_costs_what_it_holds(folder: Path) -> None:
    image = folder / "disk.qcow2"
    run("create", "-q", "-f", "qcow2", image, "1T")
    node = open_image(str(image), "qcow2")
    node.write((1 << 40) - 4096, b"x" * 4096)
    node.write(1 << 39, b"y" * 4096)
    kinds = [extent.kind for extent in node.extents(0, node.size)]
    assert kinds.count(Kind.DATA) == 2
    assert len(kinds) < 20
    node.discard(0, 1 << 40)
    assert read(node, 1 << 39, 4096) == bytes(4096)
    node.close()
    check(image)
    assert image.stat().st_blocks * 512 < 4 << 20


def test_a_chain_of_twenty_is_read_through_while_qemu_reads_it_too(folder: Path) -> None:
    base = folder / "0.qcow2"
    run("create", "-q", "-f", "qcow2", base, "2M")
    held = bytearray(2 << 20)
    for number in range(1, 21):
        run_io(folder / f"{number - 1}.qcow2", f"write -P {number} {number * 90}k 200k")
        held[number * 90 << 10 : number * 90 + 200 << 10] = bytes([number]) * (200 << 10)
        run(
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            f"{number - 1}.qcow2",
            "-F",
            "qcow2",
            folder / f"{number}.qcow2",
        )
    top = folder / "20.qcow2"
    node = open_image(str(top), "qcow2")
    assert read(node) == held
    done = subprocess.run(
        ["qemu-io", "-r", "-c", "read 0 1M", str(folder / "19.qcow2")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "read 1048576/1048576" in done.stdout, done.stderr
    refused = subprocess.run(
        ["qemu-io", "-c", "write 0 1M", str(folder / "19.qcow2")], capture_output=True, text=True, check=False
    )
    assert (
        'Failed to get shared "write" lock' in refused.stderr
        or 'Failed to get "write" lock' in refused.stderr
    )
    node.close()


def test_qemu_keeps_out_of_an_image_that_is_open_here(folder: Path) -> None:
    image, _ = Recipe(65536, 1 << 20).make(folder)
    node = open_image(str(image), "qcow2")
    for words in (["-r", "-c", "read 0 512"], ["-c", "write 0 512"]):
        done = subprocess.run(["qemu-io", *words, str(image)], capture_output=True, text=True, check=False)
        assert "lock" in done.stderr
    node.close()
    run_io(image, "write 0 512")


class SlowFile(FileNode):
    """A file that takes its time to read and write, for others to come in between, and none to flush."""

    def flush(self) -> None:
        """Nothing is asked here of what a power failure leaves."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        time.sleep(random.random() / 500)
        super().read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        time.sleep(random.random() / 2000)
        super().write(offset, data)


def test_nobody_reads_what_a_cluster_holds_for_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters are given up and used for other data while they are read."""
    monkeypatch.setattr(image_file, "FileNode", SlowFile)
    size = 4096
    image, _ = Recipe(size, 64 * size).make(folder)
    node = open_image(str(image), "qcow2")
    users = 4
    done = threading.Event()

    def change(number: int) -> None:
        for _ in range(60):
            node.write(number * size, bytes([number + 1]) * size)
            node.flush()
            node.discard(number * size, size)
            node.flush()

    def look(number: int) -> None:
        while not done.is_set():
            found = set(read(node, number * size, size))
            assert found <= {0, number + 1}
            time.sleep(0.0002)  # zeros are read at once: the others must have their turn

    with ThreadPoolExecutor(2 * users) as pool:
        lookers = [pool.submit(look, number) for number in range(users)]
        changers = [pool.submit(change, number) for number in range(users)]
        try:
            for each in changers:
                each.result()
        finally:
            done.set()
        for each in lookers:
            each.result()
    node.close()
    check(image)


def test_a_disk_is_used_by_several_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has sectors of its own, one beside the other, so that they meet in every cluster."""
    monkeypatch.setattr(image_file, "FileNode", SlowFile)
    recipe = Recipe(4096, 1 << 20, backing="raw", backing_size=1 << 20, content="snapshot")
    image, held = recipe.make(folder)
    node = open_image(str(image), "qcow2")
    threads = 4
    models = [bytearray(held) for _ in range(threads)]
    together = threading.Barrier(threads)

    def work(number: int) -> None:
        chance, model = random.Random(number), models[number]
        together.wait(20)
        for _ in range(300):
            offset = (chance.randrange(2048 // threads) * threads + number) * 512
            match chance.choice("wwwzurf"):
                case "w":
                    model[offset : offset + 512] = chance.randbytes(512)
                    node.write(offset, model[offset : offset + 512])
                case "z" | "u" as call:
                    model[offset : offset + 512] = bytes(512)
                    node.zero(offset, 512, unmap=call == "u")
                case "r":
                    assert read(node, offset, 512) == model[offset : offset + 512]
                case "f":
                    node.flush()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    for sector in range(2048):
        place = slice(sector * 512, sector * 512 + 512)
        models[0][place] = models[sector % threads][place]
    assert read(node) == models[0]
    node.close()
    check(image)
    assert content(image) == models[0]


def test_an_image_that_was_not_closed_is_repaired_before_it_is_written(folder: Path) -> None:
    image = folder / "disk.qcow2"
    run("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on,cluster_size=4096", image, "8M")
    lines = [word for start in range(1, 60, 7) for word in ("-c", f"write -P {start} {start * 100}k 90k")]
    subprocess.run(
        ["qemu-io", *lines, "-c", "flush", "-c", "abort", image], capture_output=True, check=False, cwd=folder
    )
    assert (
        subprocess.run(["qemu-img", "check", "-q", image], capture_output=True, check=False).returncode == 2
    )
    node = open_image(str(image), "qcow2", read_only=True)
    held = read(node)
    node.close()
    disk = Disk(image, held)
    disk.do(Step("write", 0.5, 100_000, 1))
    disk.check()


CHANGES: dict[str, Callable[[Node], None]] = {
    "write": lambda node: node.write(0, b"x" * 512),
    "zero": lambda node: node.zero(0, 65536),
    "discard": lambda node: node.discard(0, 65536),
    "resize": lambda node: node.resize(2 << 20),
}


@pytest.mark.parametrize("change", CHANGES)
def test_bitmaps_are_kept_up(folder: Path, change: str) -> None:
    image, _ = Recipe(65536, 1 << 20, content="data").make(folder)
    run("bitmap", "--add", image, "b0")
    before = image.read_bytes()
    node = open_image(str(image), "qcow2", read_only=True)
    read(node)
    node.close()
    assert image.read_bytes() == before
    for changes in (False, True):
        node = open_image(str(image), "qcow2")
        assert "in-use" in run("info", "-U", image)
        if changes:
            CHANGES[change](BitmapFilter(node, node.bitmaps))
        node.close()
        info = run("info", image)
        assert "b0" in info
        assert "in-use" not in info
        check(image)
    assert dirty(image, "b0") == ([] if change == "resize" else [(0, 65536)])


class TestAllocation:
    """What qemu-img map tells of what was done here."""

    def allocated(self, image: Path) -> list[tuple[int, int, bool, bool]]:
        rows = json.loads(run("map", "--output=json", image))
        return [(row["start"], row["length"], row["zero"], row["depth"] == 0) for row in rows]

    def test_a_discarded_part_of_a_new_overlay_is_a_zero_cluster(self, folder: Path) -> None:
        image, _ = Recipe(65536, 1 << 20, backing="raw", backing_size=1 << 20).make(folder)
        node = open_image(str(image), "qcow2")
        node.discard(128 << 10, 128 << 10)
        assert [extent.kind for extent in node.extents(0, 1 << 20)] == [Kind.BACKING, Kind.ZERO, Kind.BACKING]
        node.close()
        assert (128 << 10, 128 << 10, True, True) in self.allocated(image)

    def test_a_discarded_part_of_an_old_overlay_stays(self, folder: Path) -> None:
        image, held = Recipe(65536, 1 << 20, compat="0.10", backing="raw", backing_size=1 << 20).make(folder)
        disk = Disk(image, held)
        disk.node.discard(0, 1 << 20)
        assert [extent.kind for extent in disk.node.extents(0, 1 << 20)] == [Kind.BACKING]
        disk.check()

    def test_what_is_given_up_is_used_again(self, folder: Path) -> None:
        image, _ = Recipe(65536, 8 << 20).make(folder)
        node = open_image(str(image), "qcow2")
        for number in range(20):
            node.write(0, bytes([number + 1]) * (4 << 20))
            node.discard(0, 8 << 20)
            node.flush()
        node.close()
        assert image.stat().st_size < 10 << 20
        check(image)


@pytest.mark.parametrize("size", [0, 512 << 20])
def test_nothing_is_read_and_written_where_the_disk_ends(tmp_path: Path, size: int) -> None:
    image, _ = Recipe(65536, size).make(tmp_path)
    node = open_image(str(image), "qcow2")
    node.read_into(size, memoryview(bytearray()))
    node.write(size, b"")
    node.zero(size, 0)
    node.discard(size, 0)
    assert list(node.extents(size, 0)) == []
    node.close()
    check(image)
