"""Chains of images as QEMU finds, reads and locks them: how their names are meant, how unlike they are."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qmon.block.image import look_at_image, open_image
from qmon.block.raw import RawNode
from tests.support.images import noise
from tests.support.peers import require
from tests.support.qcow2_images import CLUSTER_SIZES, check, content, read, run, run_io
from tests.support.qcow2_model import Disk, Step, opened
from tests.support.thoroughness import a_chance
from tests.support.waiting import PATIENCE

HERE, THERE = b"C" * 1024, b"S" * 1024


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


def seen_by_qemu(image: Path | str, cwd: Path) -> tuple[str, bytes | None]:
    """What qemu-img says when it reads an image, and what the image holds."""
    out = cwd / "seen"
    out.unlink(missing_ok=True)
    words = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd)
    return done.stderr, out.read_bytes() if done.returncode == 0 else None


@pytest.mark.parametrize(
    "name",
    [
        "base.img",
        "./base.img",
        "../base.img",
        "../else/../images/base.img",
        "file:base.img",
        "file:images/base.img",
        "link",
        "{folder}/images/base.img",
        "file:{folder}/base.img",
        "{folder}/else/base.img",
        'json:{{"driver":"raw","file":{{"driver":"file","filename":"{folder}/base.img"}}}}',
        'json:{{"file.filename":"base.img"}}',
        'json:{{"driver":"raw","file":{{"driver":"file","filename":"images/base.img"}}}}',
        'json:{{"driver":"file","filename":"base.img"}}',
    ],
)
@pytest.mark.parametrize("overlay", ["images/disk.qcow2", "else/disk.qcow2"])
def test_a_backing_file_is_looked_for_where_qemu_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, overlay: str
) -> None:
    """``else`` is a link to a folder beside ``images``, and ``else/disk.qcow2`` one to the image."""
    monkeypatch.chdir(tmp_path)
    for folder in (Path("images"), Path("real/else")):
        folder.mkdir(parents=True)
    Path("else").symlink_to("real/else")
    Path("base.img").write_bytes(HERE)
    Path("images/base.img").write_bytes(THERE)
    Path("real/else/base.img").write_bytes(b"E" * 1024)
    Path("images/link").symlink_to("../base.img")
    Path("real/else/disk.qcow2").symlink_to("../../images/disk.qcow2")
    name = name.format(folder=tmp_path)
    run("create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", "images/disk.qcow2", 1024)
    message, held = seen_by_qemu(overlay, tmp_path)
    if held is None:
        why = next(each for each in ("No such file", "A block device must be specified") if each in message)
        with pytest.raises(OSError, match=f"Could not open backing file: .*{why}"):
            open_image(overlay, "qcow2", read_only=True)
        return
    node = open_image(overlay, "qcow2", read_only=True)
    assert read(node) == held
    node.close()
    assert [layer.format for layer in look_at_image(overlay, "qcow2")] == ["qcow2", "raw"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nbd:unix:{folder}/absent", "Failed to connect to '{folder}/absent': No such file or directory"),
        ("a:b", "'a:b' is not a file's name"),
        ('json:{{"driver":"nbd","path":"absent"}}', 'A block device must be specified for "file"'),
        (
            'json:{{"driver":"raw","file":{{"driver":"nbd","path":"absent"}}}}',
            "Failed to connect to 'absent': No such file or directory",
        ),
        ('json:{{"file.driver":"https"}}', "driver 'https' is not supported: use "),
    ],
)
def test_a_backing_file_that_is_no_plain_file_is_refused(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "base.img").write_bytes(HERE)
    image = tmp_path / "disk.qcow2"
    run("create", "-q", "-u", "-f", "qcow2", "-b", name.format(folder=tmp_path), "-F", "raw", image, 1024)
    words = [sys.executable, "-m", "qmon", "-drive", f"file={image},format=qcow2,id=d0", "-c", "info status"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    (line,) = done.stderr.splitlines()
    assert "Could not open backing file: " in line
    assert why.format(folder=tmp_path) in line
    was_left_alone(image)


def was_left_alone(image: Path) -> None:
    """No lock was left behind."""
    run("rebase", "-u", "-b", "", image)
    run_io(image, "write 0 512")


CHAIN = 20
SIZES = (300 << 10, (500 << 10) + 512, 1 << 20, (1 << 20) + (3 << 9))


def make_chain(folder: Path, chance: random.Random) -> list[tuple[Path, bytes]]:
    """Images of many kinds and sizes, each behind the next, with what a guest sees of each."""
    base = folder / "0"
    held = noise(777_777)
    base.write_bytes(held)
    held += bytes(-len(held) % 512)
    chain = [(base, held)]
    for number in range(1, CHAIN + 1):
        image, size = folder / str(number), chance.choice(SIZES)
        compat, cluster_size = chance.choice(["0.10", "1.1"]), chance.choice(CLUSTER_SIZES)
        options = f"compat={compat},cluster_size={cluster_size}"
        behind = ["-b", str(number - 1), "-F", "raw" if number == 1 else "qcow2"]
        run("create", "-q", "-f", "qcow2", "-o", options, *behind, image, size)
        offset, length = chance.randrange(size // 512) * 512, 512 * chance.randrange(1, 200)
        length = min(length, size - offset)
        run_io(image, f"write -P {number} {offset} {length}")
        seen = bytearray(held[:size].ljust(size, b"\0"))
        seen[offset : offset + length] = bytes([number]) * length
        held = bytes(seen)
        chain.append((image, held))
    return chain


def test_a_chain_of_unlike_images_is_written_while_qemu_reads_it(tmp_path: Path) -> None:
    chance = a_chance("unlike images")
    chain = make_chain(tmp_path, chance)
    (below, held_below), (top, held) = chain[-2:]
    disk = Disk(top, held)
    assert read(disk.node) == held
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            call = chance.choice(["write", "zero", "unmap", "discard", "flush"])
            disk.do(Step(call, chance.random(), chance.randrange(1, 100_000), chance.randrange(256)))

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            for image, seen in (chain[1], chain[CHAIN // 2], (below, held_below)):
                assert content(image) == seen
            for image in (top, below, chain[1][0]):
                for words in (["-c", "write 0 512"], ["-r", "-c", "read 0 512"]):
                    reads_below = "-r" in words and image is not top
                    command = ["qemu-io", "-f", "qcow2", *words, str(image)]
                    said = subprocess.run(command, capture_output=True, text=True, check=False)
                    assert ("lock" in said.stderr) is not reads_below, (words, image)
        finally:
            done.set()
        writer.result()
    disk.check()
    for image, seen in chain[1:-1]:
        assert content(image) == seen


@pytest.mark.parametrize(
    ("cluster_size", "size"),
    [(512, 8 << 30), (65536, 1 << 40), (2 << 20, 1 << 40)],
    ids=["512", "64k", "2M"],
)
def test_a_large_overlay_is_like_a_plain_file(tmp_path: Path, cluster_size: int, size: int) -> None:
    """QEMU compares it with a file with holes that was written alike."""
    chance = a_chance(f"a large overlay with clusters of {cluster_size}")
    base, image, plain = tmp_path / "base", tmp_path / "disk.qcow2", tmp_path / "plain"
    run("create", "-q", "-f", "qcow2", base, size)
    run_io(base, "write -P 1 1M 3M", f"write -P 2 {size - (3 << 20)} 3M")
    options = f"cluster_size={cluster_size}"
    run("create", "-q", "-f", "qcow2", "-o", options, "-b", "base", "-F", "qcow2", image, size)
    node = opened(image)
    model = RawNode(str(make_sparse(plain, size)))
    for offset, byte in ((1 << 20, b"\1"), (size - (3 << 20), b"\2")):
        model.write(offset, byte * (3 << 20))
    places = [0, 1 << 20, size // 3 // 512 * 512, size // 2, size - (3 << 20)]
    for number in range(60):
        if number == 30:
            for each in (node, model):
                each.resize(size + 512 * 5)
            places.append(size - 512)
        if number == 45:
            node.internal.take("one", 1, 2)
        start = chance.choice(places)
        offset = start + (chance.randrange(2 << 20) if start + (3 << 20) < node.size else 0)
        length = min(node.size - offset, chance.choice([1, 512, 70_000, chance.randrange(1, 1 << 20)]))
        match chance.choice("wwwzd"):
            case "w":
                data = chance.randbytes(length)
                for each in (node, model):
                    each.write(offset, data)
            case "z":
                for each in (node, model):
                    each.zero(offset, length)
            case "d":
                node.discard(offset, length)
                model.write(offset, read(node, offset, length))
    states = [extent.kind for extent in node.extents(0, node.size)]
    assert len(states) < 1000
    node.close()
    model.close()
    check(image)
    run("compare", "-q", "-f", "raw", "-F", "qcow2", plain, image)
    assert image.stat().st_blocks * 512 < 200 << 20


def make_sparse(file: Path, size: int) -> Path:
    file.touch()
    os.truncate(file, size)
    return file
