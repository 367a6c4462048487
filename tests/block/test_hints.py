"""What a disk says beside its bytes: where zeroing is fast. Reading ahead changes nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from qmon.block import file, hints
from qmon.block.image import open_image
from qmon.block.node import Filter
from qmon.block.raw import RawNode
from tests.support.peers import require
from tests.support.qcow2_images import run

SIZE = (1 << 20) + 512
CLUSTER = 65536


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"\x11" * SIZE)
    return path


def test_a_raw_file_is_zeroed_fast_by_holes_and_not_otherwise(raw: Path) -> None:
    node = RawNode(str(raw))
    top = Filter(node)
    assert hints.zeroes_fast(top, 100, 5000, unmap=True)
    assert not hints.zeroes_fast(top, 0, 4096, unmap=False)
    assert raw.read_bytes() == b"\x11" * SIZE
    node.close()
    read_only = RawNode(str(raw), read_only=True)
    assert not hints.zeroes_fast(read_only, 0, 4096, unmap=True)
    read_only.close()


def test_a_file_system_without_holes_zeroes_slowly(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(file, "punch_hole", refuse)
    node = RawNode(str(raw))
    assert not hints.zeroes_fast(node, 0, 4096, unmap=True)
    node.close()


@pytest.mark.parametrize(
    ("compat", "is_overlay", "unmap", "is_fast"),
    [("1.1", True, False, True), ("0.10", False, True, True), ("0.10", True, True, False)],
)
def test_whole_clusters_of_qcow2_are_zeroed_fast(
    raw: Path, compat: str, is_overlay: bool, unmap: bool, is_fast: bool
) -> None:
    require("qemu-img")
    image = raw.with_suffix(".qcow2")
    backing = ["-b", raw.name, "-F", "raw"] if is_overlay else []
    run("create", "-q", "-f", "qcow2", "-o", f"compat={compat}", *backing, image, SIZE)
    node = open_image(str(image), "qcow2")
    ranges = [(0, CLUSTER), (CLUSTER, SIZE - CLUSTER), (512, CLUSTER), (0, 512)]
    told = [hints.zeroes_fast(node, *each, unmap=unmap) for each in ranges]
    assert told == [is_fast, is_fast, False, False]
    hints.prefetch(node, 0, SIZE)
    node.close()


def test_who_knows_nothing_of_hints_is_slow_and_reads_nothing_ahead() -> None:
    assert not hints.zeroes_fast(object(), 0, 512, unmap=True)
    hints.prefetch(object(), 0, 512)
