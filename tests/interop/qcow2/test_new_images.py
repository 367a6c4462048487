"""New qcow2 images of every shape: qemu-img finds no fault in them, also after qmon has written to them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from qmon.block.file import FileNode
from qmon.block.image import open_image
from qmon.block.qcow2.create import write_image
from qmon.block.qcow2.header import Compression
from qmon.block.qcow2.layout import NewImage
from tests.support.peers import require
from tests.support.thoroughness import examples

SECTOR = 512


@some.composite
def images(draw: some.DrawFn) -> NewImage:
    version = draw(some.sampled_from((2, 3)))
    bits = draw(some.integers(9, 21))
    is_preallocated = draw(some.booleans())
    sectors = draw(some.integers(0, (1 << (bits + 4 if is_preallocated else bits + 12)) // SECTOR))
    return NewImage(
        sectors * SECTOR,
        version=version,
        cluster_bits=bits,
        refcount_order=4 if version == 2 else draw(some.integers(0, 6)),
        lazy_refcounts=version == 3 and draw(some.booleans()),
        compression=Compression.ZLIB if version == 2 else draw(some.sampled_from(Compression)),
        is_preallocated=is_preallocated,
    )


def check(path: Path) -> None:
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path], check=True)


@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(image=images(), before=some.integers(0, 300_000), data=some.data())
def test_no_fault_is_found(tmp_path: Path, image: NewImage, before: int, data: some.DataObject) -> None:
    require("qemu-img", "qemu-io")
    path = tmp_path / "new.qcow2"
    path.write_bytes(b"\xff" * before)
    file = FileNode(str(path), read_only=False, locks=None)
    write_image(file, image)
    file.close()
    check(path)
    if not image.size:
        return
    offset = data.draw(some.integers(0, image.size // SECTOR - 1)) * SECTOR
    node = open_image(str(path), "qcow2")
    buffer = bytearray(SECTOR)
    node.read_into(offset, memoryview(buffer))
    assert buffer == bytes(SECTOR)
    node.write(offset, b"\x01" * SECTOR)
    node.flush()
    node.close()
    check(path)
    pattern = f"read -P 1 {offset} {SECTOR}"
    subprocess.run(["qemu-io", "-r", "-f", "qcow2", "-c", pattern, path], check=True, capture_output=True)


@pytest.mark.parametrize("bits", [9, 16])
def test_nothing_that_was_interrupted_is_an_image(tmp_path: Path, bits: int) -> None:
    """What the file was before is no image any more either."""
    require("qemu-img")
    path = tmp_path / "new.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise InterruptedError

    file = FileNode(str(path), read_only=False, locks=None)
    with pytest.raises(InterruptedError):
        write_image(file, NewImage(1 << 20, cluster_bits=bits, is_preallocated=True), check=stop)
    file.close()
    asked = ["qemu-img", "info", "-f", "qcow2", str(path)]
    assert b"not in qcow2 format" in subprocess.run(asked, capture_output=True, check=False).stderr
