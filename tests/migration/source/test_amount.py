"""How much a copy would send is bounded from both sides, whatever the disk holds and how long it takes."""

from __future__ import annotations

import errno
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block.node import Extent, Kind
from qmon.errors import QmonError
from qmon.migration.source.amount import BLOCK, PIECE, estimate, lower_bound
from tests.support.memory import MemoryNode
from tests.support.thoroughness import examples

SIZE = 64 * PIECE


def node_of(content: bytes) -> MemoryNode:
    node = MemoryNode(len(content))
    node.data[:] = content
    return node


def estimated(
    node: MemoryNode, extents: list[Extent], samples: int = 4096, seconds: float = 60
) -> tuple[int, int, int]:
    """The lower bound, the likely number, and the upper bound."""
    found = estimate(
        node, extents, samples=samples, seconds=seconds, chance=random.Random(1), pulse=lambda: None
    )
    return found.amount.least, found.likely, found.amount.most


def data(offset: int, length: int) -> Extent:
    return Extent(offset, length, Kind.DATA)


@settings(max_examples=examples(50))
@given(st.binary(min_size=1, max_size=64), st.integers(1, 64))
def test_a_small_disk_is_counted_exactly(blocks: bytes, run: int) -> None:
    """Each byte says whether a block holds data; all of it is called data, as on a block device."""
    content = b"".join((b"x" if each % 2 else b"\0") * BLOCK for each in blocks)
    pieces = [content[at : at + PIECE] for at in range(0, len(content), PIECE)]
    sent = sum(len(piece) for piece in pieces if any(piece))
    held = sum(BLOCK for each in blocks if each % 2)
    assert estimated(node_of(content), [data(0, len(content))]) == (held, sent, sent)


def test_holes_and_what_the_backing_image_holds_are_not_counted() -> None:
    extents = [
        Extent(0, PIECE, Kind.ZERO),
        data(PIECE, PIECE),
        Extent(2 * PIECE, SIZE - 2 * PIECE, Kind.BACKING),
    ]
    assert estimated(node_of(b"x" * SIZE), extents) == (PIECE, PIECE, PIECE)


def test_an_empty_disk_needs_nothing() -> None:
    assert estimated(node_of(bytes(SIZE)), [Extent(0, SIZE, Kind.ZERO)]) == (0, 0, 0)
    assert estimated(node_of(bytes(SIZE)), [data(0, SIZE)]) == (0, 0, 0)
    assert estimated(node_of(b""), []) == (0, 0, 0)


def test_samples_of_a_full_disk_leave_little_doubt() -> None:
    least, likely, most = estimated(node_of(b"x" * SIZE), [data(0, SIZE)], samples=32)
    assert 0.6 * SIZE < least < likely == most == SIZE


def test_samples_of_a_half_full_disk_find_about_the_half() -> None:
    content = (b"x" * PIECE + bytes(PIECE)) * 2048
    least, likely, most = estimated(node_of(content), [data(0, len(content))], samples=1024)
    assert 0.4 < likely / len(content) < 0.6
    assert 0.35 * len(content) < least < len(content) // 2
    assert most == len(content)


def test_what_was_not_looked_at_in_time_may_be_data() -> None:
    node = node_of(b"x" * SIZE)
    least, likely, most = estimated(node, [data(0, PIECE), data(PIECE, SIZE - PIECE)], seconds=-1)
    assert (likely, most) == (SIZE, SIZE)
    assert least <= PIECE


def test_who_waits_can_end_it() -> None:
    def stop() -> None:
        raise QmonError("enough")

    with pytest.raises(QmonError, match="enough"):
        estimate(
            node_of(b"x" * SIZE),
            [data(0, SIZE)],
            samples=1,
            seconds=60,
            chance=random.Random(1),
            pulse=stop,
        )


@given(st.floats(0, 1), st.integers(1, 5000))
def test_the_bound_is_below_the_mean_and_rises_with_the_samples(share: float, count: int) -> None:
    assert 0 <= lower_bound(share, count) <= share
    assert lower_bound(share, count) <= lower_bound(share, 2 * count) + 1e-9


@settings(max_examples=examples(30))
@given(st.floats(0.05, 1), st.integers(10, 400), st.integers(0, 1 << 30))
def test_the_bound_is_below_the_truth(share: float, count: int, seed: int) -> None:
    chance = random.Random(seed)
    hits = sum(chance.random() < share for _ in range(count))
    assert lower_bound(hits / count, count) <= share


class UnreadableNode(MemoryNode):
    def read_into(self, offset: int, buffer: memoryview) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("samples", [10, 100])
def test_what_can_not_be_read_may_be_data(samples: int) -> None:
    """The copy will tell of the error, and name the place."""
    assert estimated(UnreadableNode(SIZE), [data(0, SIZE)], samples) == (0, SIZE, SIZE)
