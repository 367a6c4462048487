"""An overlay's copy against the overlay, whatever is allocated in it and whatever is written meanwhile."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmon.block.dirty import DirtyMap
from qmon.block.node import Kind as Holds
from qmon.block.node import Node
from qmon.block.qcow2.node import Qcow2Node
from qmon.block.raw import RawNode
from qmon.migration.source.incremental import IncrementalCopy
from qmon.migration.wire.stream import PREAMBLE, Kind, section_start
from qmon.migration.wire.writer import RecordWriter
from tests.support.feeding import Feed
from tests.support.images import noise
from tests.support.memory import NodeDrive
from tests.support.peers import require
from tests.support.thoroughness import examples

CLUSTERS = (512, 4096, 65536)
COMPATS = ("0.10", "1.1")
SIZE = (768 << 10) + 1536
BASE_SIZES = (SIZE, 300 << 10)
CHUNK = 4096


class Shelf:
    """Empty overlays of each kind, to be copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = iter(range(1 << 30))
        for size in BASE_SIZES:
            (folder / f"base-{size}").write_bytes(noise(size // 2) + bytes(size - size // 2))
        for cluster in CLUSTERS:
            for compat in COMPATS:
                options = f"cluster_size={cluster},compat={compat}"
                base = f"base-{BASE_SIZES[0]}"
                words = ["create", "-q", "-f", "qcow2", "-o", options, "-b", base, "-F", "raw"]
                name = folder / f"{cluster}-{compat}"
                subprocess.run(["qemu-img", *words, name, str(SIZE)], check=True)

    def overlay(self, cluster: int, compat: str, base_size: int) -> NodeDrive:
        path = self._folder / f"taken-{next(self._numbers)}"
        shutil.copy(self._folder / f"{cluster}-{compat}", path)
        node = Qcow2Node(str(path))
        node.backing = RawNode(str(self._folder / f"base-{base_size}"), read_only=True, lock=False)
        return NodeDrive(node, str(path))

    @staticmethod
    def close(*overlays: NodeDrive) -> None:
        for each in overlays:
            each.node.close()
            Path(each.image).unlink()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    require("qemu-img")
    return Shelf(tmp_path_factory.mktemp("overlays"))


class Onto:
    """A copy's outlet that applies what comes to a node; a guest does something behind each batch."""

    def __init__(self, node: Node, guest: Iterator[None]) -> None:
        self.writer = RecordWriter()
        self.writer.raw(PREAMBLE + section_start())
        self.bytes = 0
        self._node = node
        self._guest = guest
        self._feed = Feed()

    def pulse(self) -> None:
        """Nobody waits."""

    is_wanted = False

    def allowance(self) -> int:
        return 64 << 10

    def push(self) -> None:
        self.send()

    def send(self) -> None:
        seen = len(self._feed.items)
        self._feed.give(b"".join(self.writer.buffers))
        for kind, _, offset, length, _, payload in self._feed.items[seen:]:
            assert kind in (Kind.DATA, Kind.ZERO)
            self.bytes += length
            if kind is Kind.DATA:
                self._node.write(offset, payload)
            else:
                self._node.zero(offset, length)
        self.writer.clear()
        next(self._guest, None)


def change(overlay: NodeDrive, dice: random.Random) -> None:
    """One request of a guest, marked as the filter does."""
    node = overlay.node
    offset = dice.randrange(SIZE // 512) * 512
    length = min(dice.choice([512, 1024, 4096, 30_208, 131_072]), SIZE - offset)
    match dice.randrange(5):
        case 0:
            node.zero(offset, length)
        case 1:
            node.discard(offset, length)
        case _:
            node.write(offset, dice.randbytes(length))


def content(node: Node) -> bytes:
    buffer = bytearray(SIZE)
    node.read_into(0, memoryview(buffer))
    return bytes(buffer)


def held(node: Node) -> set[int]:
    """The sectors that an overlay holds itself."""
    return {
        sector
        for extent in node.extents(0, SIZE)
        if extent.kind is not Holds.BACKING
        for sector in range(extent.offset // 512, extent.end // 512)
    }


@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ours=st.tuples(st.sampled_from(CLUSTERS), st.sampled_from(COMPATS)),
    theirs=st.tuples(st.sampled_from(CLUSTERS), st.sampled_from(COMPATS)),
    base_size=st.sampled_from(BASE_SIZES),
    before=st.integers(0, 12),
    meanwhile=st.integers(0, 20),
    granularity=st.sampled_from([CHUNK, 16 * CHUNK]),
    seed=st.integers(0, 10_000),
)
def test_the_destinations_overlay_is_the_sources(
    shelf: Shelf,
    ours: tuple[int, str],
    theirs: tuple[int, str],
    base_size: int,
    before: int,
    meanwhile: int,
    granularity: int,
    seed: int,
) -> None:
    """The same disk always; the same sectors of it where the destination's clusters are no larger."""
    source, target = shelf.overlay(*ours, base_size), shelf.overlay(*theirs, base_size)
    dice = random.Random(seed)

    class Coarse(IncrementalCopy):
        @staticmethod
        def _new_map(size: int) -> DirtyMap:
            return DirtyMap(size, granularity)

    try:
        for _ in range(before):
            change(source, dice)

        def guest() -> Iterator[None]:
            for _ in range(meanwhile):
                change(source, dice)
                yield

        requests = guest()
        copy = Coarse(0, source)
        copy.install()
        next(requests, None)
        copy.survey(lambda: next(requests, None))
        outlet = Onto(target.node, requests)
        while copy.dirty.dirty_bytes or next(requests, outlet) is not outlet:
            copy.send_dirty(outlet)
            outlet.send()
            assert copy.remaining == copy.dirty.dirty_bytes
        copy.uninstall()
        assert content(target.node) == content(source.node)
        if theirs[0] <= ours[0]:
            assert held(target.node) == held(source.node)
    finally:
        shelf.close(source, target)


def test_what_is_left_to_the_backing_image_stays_behind(shelf: Shelf) -> None:
    source, target = (shelf.overlay(65536, "1.1", SIZE) for _ in range(2))
    source.node.write(65536, b"x" * 1000)
    source.node.zero(4 * 65536, 65536)
    copy = IncrementalCopy(0, source)
    copy.install()
    copy.survey(lambda: None)
    assert copy.total == copy.remaining == 2 * 65536
    outlet = Onto(target.node, iter(()))
    copy.send_dirty(outlet)
    outlet.send()
    assert outlet.bytes == 2 * 65536
    assert [(each.offset, each.length, each.kind) for each in target.node.extents(0, SIZE)] == [
        (each.offset, each.length, each.kind) for each in source.node.extents(0, SIZE)
    ]
    copy.uninstall()
    shelf.close(source, target)
