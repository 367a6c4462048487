"""A raw image against a model of its bytes, and what it leaves on the file system."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block import file
from qmon.block.file import FileNode
from qmon.block.image import open_image
from qmon.block.node import Extent, Kind
from qmon.block.probe import probe_format
from qmon.block.raw import SECTOR, RawNode
from tests.support.processes import open_descriptors
from tests.support.thoroughness import examples

LARGEST = 256 << 10
FOLDERS = [None, *([Path("/dev/shm")] if os.access("/dev/shm", os.W_OK) else [])]


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: "tmp" if folder is None else "tmpfs")
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of its own on each kind of file system at hand."""
    path = Path(tempfile.mkdtemp(prefix="qmon-test-", dir=request.param))
    yield path
    shutil.rmtree(path)


def read(node: RawNode | FileNode, offset: int = 0, length: int | None = None) -> bytes:
    buffer = bytearray(b"\xee" * (node.size - offset if length is None else length))
    node.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def content(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def check_extents(extents: list[Extent], offset: int, data: bytes) -> None:
    """They tile the range, and what is said to be zero is."""
    assert all(extent.length > 0 for extent in extents)
    assert [extent.offset for extent in extents] == [offset, *(extent.end for extent in extents)][:-1]
    assert (extents[-1].end if extents else offset) == offset + len(data)
    for extent in extents:
        held = data[extent.offset - offset : extent.end - offset]
        assert extent.kind is not Kind.BACKING
        assert extent.kind is Kind.DATA or not any(held)


@dataclass(frozen=True)
class Step:
    call: str
    offset: int
    length: int
    seed: int

    def within(self, size: int) -> tuple[int, int]:
        """Its range, brought into a disk of ``size`` bytes."""
        offset = self.offset % (size + 1)
        return offset, min(self.length, size - offset)


near_edges = st.integers(0, LARGEST) | st.integers(0, LARGEST // 4096).map(lambda block: block * 4096)
steps = st.builds(
    Step,
    st.sampled_from(["write", "write", "zero", "zero-unmap", "discard", "read", "extents", "resize"]),
    near_edges,
    st.one_of(near_edges, st.integers(0, 600)),
    st.integers(0, 255),
)


class TestModel:
    @settings(max_examples=examples(60), deadline=None)
    @given(
        st.one_of(st.integers(0, LARGEST), st.sampled_from([0, 1, 511, 513, 4097])),
        st.lists(steps, max_size=12),
    )
    def test_a_disk_holds_what_was_last_put_there(self, folder: Path, length: int, todo: list[Step]) -> None:
        path = folder / "disk"
        path.write_bytes(content(1, length))
        node = RawNode(str(path))
        model = bytearray(content(1, length) + bytes(-length % SECTOR))
        try:
            for step in todo:
                assert node.size == len(model)
                offset, span = step.within(len(model))
                stop = offset + span
                match step.call:
                    case "write":
                        model[offset:stop] = content(step.seed, span)
                        node.write(offset, model[offset:stop])
                    case "zero" | "zero-unmap":
                        model[offset:stop] = bytes(span)
                        node.zero(offset, span, unmap=step.call == "zero-unmap")
                    case "discard":
                        node.discard(offset, span)
                        left = read(node, offset, span)
                        assert all(now in (0, was) for now, was in zip(left, model[offset:stop], strict=True))
                        model[offset:stop] = left
                    case "resize":
                        node.resize(step.offset)
                        size = -(-step.offset // SECTOR) * SECTOR
                        assert node.size == size
                        model = model[: step.offset] + bytes(max(0, size - min(step.offset, len(model))))
                    case "extents":
                        check_extents(list(node.extents(offset, span)), offset, bytes(model[offset:stop]))
                    case "read":
                        assert read(node, offset, span) == model[offset:stop]
                assert read(node) == model
                check_extents(list(node.extents(0, node.size)), 0, bytes(model))
            node.flush()
        finally:
            node.close()
        written = path.read_bytes()
        assert written + bytes(len(model) - len(written)) == model

    @pytest.mark.parametrize("length", [1, 511, 513, 1000, 4097])
    def test_a_file_that_ends_within_a_sector_shows_whole_sectors(self, tmp_path: Path, length: int) -> None:
        path = tmp_path / "disk"
        path.write_bytes(b"x" * length)
        node = RawNode(str(path))
        assert node.size == -(-length // SECTOR) * SECTOR
        assert read(node) == b"x" * length + bytes(node.size - length)
        assert path.stat().st_size == length, "reading made the file longer"
        node.write(node.size - 1, b"y")
        assert path.stat().st_size == node.size
        assert read(node, length) == bytes(node.size - length - 1) + b"y"
        node.close()

    def test_zeros_reach_what_another_program_has_appended(self, tmp_path: Path) -> None:
        """The end of the file is where it is, not where it was on opening."""
        path = tmp_path / "disk"
        path.write_bytes(b"x" * 1000)
        node = RawNode(str(path), lock=False)
        with path.open("ab") as other:
            other.write(b"y" * 24)
        node.zero(0, 1024, unmap=False)
        assert read(node) == bytes(1024)
        node.close()

    def test_a_disk_can_be_read_and_written_by_several_threads(self, tmp_path: Path) -> None:
        """One file descriptor, no shared position: whatever the order, each finds what it wrote."""
        path = tmp_path / "disk"
        path.touch()
        os.truncate(path, 4 << 20)
        node = RawNode(str(path))

        def work(number: int) -> bool:
            mine = content(number, 64 << 10)
            for _ in range(20):
                node.write(number * len(mine), mine)
                if read(node, number * len(mine), len(mine)) != mine:
                    return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(64)))
        node.close()


class TestHoles:
    def test_zeroed_storage_is_given_back(self, folder: Path) -> None:
        path = folder / "sparse"
        path.write_bytes(content(2, 1 << 20))
        node = RawNode(str(path))
        node.flush()
        before = path.stat().st_blocks
        node.zero(0, 1 << 19, unmap=True)
        node.flush()
        assert path.stat().st_blocks <= before // 2 + 16
        assert [extent.kind for extent in node.extents(0, 1 << 19)] == [Kind.ZERO]
        node.discard(0, 1 << 20)
        node.flush()
        assert path.stat().st_blocks <= 16
        assert path.stat().st_size == 1 << 20
        node.close()

    @pytest.mark.parametrize("punch", ["zero", "discard"])
    def test_a_hole_is_seen_also_where_data_were_seen_before(self, folder: Path, punch: str) -> None:
        path = folder / "punched.img"
        path.write_bytes(content(1, 64 << 10))
        node = open_image(str(path), "raw")
        try:
            assert list(node.extents(0, 32 << 10)) == [Extent(0, 32 << 10, Kind.DATA)]
            getattr(node, punch)(8 << 10, 16 << 10)
            node.write(12 << 10, b"x" * 4096)
            assert list(node.extents(0, node.size)) == [
                Extent(0, 8 << 10, Kind.DATA),
                Extent(8 << 10, 4 << 10, Kind.ZERO),
                Extent(12 << 10, 4 << 10, Kind.DATA),
                Extent(16 << 10, 8 << 10, Kind.ZERO),
                Extent(24 << 10, 40 << 10, Kind.DATA),
            ]
            node.resize(4 << 10)
            node.resize(8 << 10)
            assert list(node.extents(0, 8 << 10)) == [
                Extent(0, 4 << 10, Kind.DATA),
                Extent(4 << 10, 4 << 10, Kind.ZERO),
            ]
        finally:
            node.close()
            path.unlink()

    def test_how_far_data_go_is_looked_at_once(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A tmpfs looks at every page up to there: of a large file asked about piece by piece, too many."""
        path = folder / "full.img"
        path.write_bytes(content(1, 256 << 10))
        asked: list[int] = []
        lseek = os.lseek

        def look(descriptor: int, offset: int, whence: int) -> int:
            asked.append(whence)
            return lseek(descriptor, offset, whence)

        monkeypatch.setattr(os, "lseek", look)
        node = open_image(str(path), "raw")
        try:
            for offset in range(0, 256 << 10, 4096):
                assert list(node.extents(offset, 4096)) == [Extent(offset, 4096, Kind.DATA)]
        finally:
            node.close()
            path.unlink()
        assert asked.count(os.SEEK_HOLE) == 1

    def test_a_sparse_image_stays_sparse(self, folder: Path) -> None:
        path = folder / "sparse2"
        path.touch()
        os.truncate(path, 1 << 40)
        node = RawNode(str(path))
        node.write(512 << 30, b"data")
        node.zero(0, 1 << 39, unmap=True)
        node.flush()
        kinds = [extent.kind for extent in node.extents(0, node.size)]
        assert kinds == [Kind.ZERO, Kind.DATA, Kind.ZERO]
        assert path.stat().st_blocks * 512 <= 64 << 10
        node.close()

    @pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENODEV])
    def test_where_no_hole_can_be_punched_zeros_are_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def refuse(*_: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(file, "punch_hole", refuse)
        path = tmp_path / "disk"
        path.write_bytes(b"x" * (3 << 20))
        node = RawNode(str(path))
        node.zero(5, (3 << 20) - 10, unmap=True)
        node.close()
        assert path.read_bytes() == b"x" * 5 + bytes((3 << 20) - 10) + b"x" * 5

    def test_a_full_disk_is_not_taken_for_one_without_holes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(file, "punch_hole", refuse)
        path = tmp_path / "disk"
        path.write_bytes(b"x" * 4096)
        node = RawNode(str(path))
        with pytest.raises(OSError, match="No space left"):
            node.zero(0, 4096, unmap=True)
        node.close()


class TestOpening:
    def test_a_read_only_disk_refuses_writes(self, tmp_path: Path) -> None:
        path = tmp_path / "disk"
        path.write_bytes(b"x" * 4096)
        node = RawNode(str(path), read_only=True)
        assert node.read_only
        with pytest.raises(OSError, match="Bad file descriptor"):
            node.write(0, b"y")
        with pytest.raises(OSError, match="Bad file descriptor"):
            node.zero(0, 1)
        with pytest.raises(OSError, match="Bad file descriptor"):
            node.zero(0, 1, unmap=False)
        with pytest.raises(OSError, match="Bad file descriptor"):
            node.discard(0, 1)
        node.close()
        assert path.read_bytes() == b"x" * 4096

    def test_a_disk_without_write_access_can_be_opened_to_be_read(self, tmp_path: Path) -> None:
        path = tmp_path / "disk"
        path.write_bytes(b"x" * 512)
        path.chmod(0o444)
        node = RawNode(str(path), read_only=True)
        assert read(node) == b"x" * 512
        node.close()

    @pytest.mark.parametrize("read_only", [True, False])
    def test_what_is_no_disk_is_refused_at_once(self, tmp_path: Path, read_only: bool) -> None:
        """A FIFO would keep its opener waiting for a writer."""
        os.mkfifo(tmp_path / "fifo")
        for path in (str(tmp_path / "fifo"), str(tmp_path), "/dev/null"):
            with pytest.raises(OSError, match=r"regular file|directory"):
                RawNode(path, read_only=read_only)

    def test_probing_does_not_wait_for_a_fifo(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        assert probe_format(str(tmp_path / "fifo")) == "raw"

    @pytest.mark.parametrize(
        ("head", "expected"), [(b"", "raw"), (b"QFI", "raw"), (b"QFI\xfb", "qcow2"), (b"QFI\xfa", "raw")]
    )
    def test_a_format_is_told_by_its_magic(self, tmp_path: Path, head: bytes, expected: str) -> None:
        (tmp_path / "image").write_bytes(head)
        assert probe_format(str(tmp_path / "image")) == expected

    def test_an_unknown_format_is_refused_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(bytes(512))
        with pytest.raises(OSError, match="Unknown driver 'vmdk'"):
            open_image(str(tmp_path / "image"), "vmdk")

    def test_a_disk_can_be_closed_twice(self, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(bytes(512))
        node = RawNode(str(tmp_path / "image"))
        node.close()
        held = os.open(tmp_path / "image", os.O_RDONLY)  # likely the descriptor's number of before
        node.close()
        os.fstat(held)
        os.close(held)

    def test_no_descriptor_is_left_of_a_disk_that_could_not_be_opened(self, tmp_path: Path) -> None:
        path = tmp_path / "image"
        path.write_bytes(bytes(512))
        holder = RawNode(str(path))
        for _ in range(3):
            with pytest.raises(OSError, match="lock"):
                RawNode(str(path))
        holder.close()
        assert str(path.resolve()) not in open_descriptors(os.getpid())
