"""Digests of ranges of an export: equal for equal bytes, bounded, and as many as fit into a time."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import QmonError
from qmon.remote.migration.proof.checksums import (
    BLOCK,
    QUESTION_BYTES,
    RANGE_MAX,
    RANGES_MAX,
    Digester,
    all_ranges,
    questions,
    read_ranges,
)
from qmon.remote.migration.wire.message import Members, MessageError
from tests.support.images import MIB
from tests.support.nbd_served import Served
from tests.support.waiting import connected

SIZE = 64 * MIB


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


@asynccontextmanager
async def digester(served: Served) -> AsyncIterator[Digester]:
    async def connect() -> socket.socket:
        return connected(served.socket)

    made = Digester(connect, "d0")
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def write(served: Served, offset: int, data: bytes) -> None:
    with served.image.open("r+b") as file:
        os.pwrite(file.fileno(), data, offset)


def digests(served: Served, seconds: float = 60) -> list[str]:
    async def run() -> list[str]:
        async with digester(served) as ours:
            return await ours.digests(all_ranges(ours.size), seconds)

    return asyncio.run(run())


def test_a_hole_and_written_zeros_have_the_same_digest(served: Served) -> None:
    before = digests(served)
    write(served, 5 * MIB, bytes(MIB))
    assert digests(served) == before
    assert len(set(before)) == 1


def test_any_changed_byte_changes_the_digest_of_its_range_alone(served: Served) -> None:
    write(served, 0, random.Random(1).randbytes(3 * MIB))
    before = digests(served)
    for at in (0, 3 * MIB - 1, 7 * MIB + 12345, SIZE - 1):
        write(served, at, b"\xfe")
        after = digests(served)
        changed = [index for index, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        assert changed == [at // MIB]
        before = after


def test_blocks_that_change_places_change_the_digest(served: Served) -> None:
    one, other = (random.Random(seed).randbytes(BLOCK) for seed in (1, 2))
    write(served, 0, one + other)
    before = digests(served)[0]
    write(served, 0, other + one)
    assert digests(served)[0] != before
    write(served, 0, bytes(2 * BLOCK) + one + other)
    assert digests(served)[0] != before


def test_without_time_the_first_ranges_are_still_read(served: Served) -> None:
    found = digests(served, seconds=0)
    assert 1 <= len(found) < SIZE // MIB
    assert found == digests(served)[: len(found)]


def test_a_digester_that_is_closed_ends_what_it_reads(served: Served) -> None:
    async def run() -> None:
        async with digester(served) as ours:
            served.disk.gate.close("test")  # the server answers no read
            work = asyncio.create_task(ours.digests(all_ranges(ours.size)))
            await asyncio.sleep(0.1)
            await ours.close()
            with pytest.raises(QmonError, match="closed the connection"):
                await work
            with pytest.raises(QmonError, match="has ended"):
                await ours.digests([(0, BLOCK)])
        served.disk.gate.open("test")

    asyncio.run(run())


def test_questions_at_the_same_time_have_the_right_answers(served: Served) -> None:
    write(served, 0, random.Random(1).randbytes(16 * MIB))

    async def run() -> None:
        async with digester(served) as ours:
            parts = [[(at, MIB) for at in range(first * MIB, SIZE, 8 * MIB)] for first in range(8)]
            alone = [await ours.digests(part) for part in parts]
            assert await asyncio.gather(*map(ours.digests, parts)) == alone

    asyncio.run(run())


def test_places_are_blocks_of_the_disk_and_half_of_them_hold_data(served: Served) -> None:
    write(served, 40 * MIB, random.Random(1).randbytes(4 * MIB))

    async def run() -> tuple[list[tuple[int, int]], list[tuple[int, int]], list[tuple[int, int]]]:
        async with digester(served) as ours:
            return await ours.places(64, 1), await ours.places(64, 1), await ours.places(64, 2)

    first, again, other = asyncio.run(run())
    assert first == again != other
    assert len(set(first)) == 64
    assert {(0, BLOCK), (SIZE - BLOCK, BLOCK)} < set(first)
    assert sum(40 * MIB <= at < 44 * MIB for at, _ in first) >= 20


def test_all_blocks_of_a_small_disk_are_places(served: Served) -> None:
    async def run() -> list[tuple[int, int]]:
        async with digester(served) as ours:
            return await ours.places(SIZE // BLOCK, 1)

    assert sorted(asyncio.run(run())) == [(at, BLOCK) for at in range(0, SIZE, BLOCK)]


ranges = st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, RANGE_MAX)), max_size=3000)


@given(ranges)
def test_questions_are_all_ranges_in_order_within_the_limits(asked: list[tuple[int, int]]) -> None:
    parts = list(questions(asked))
    assert [where for part in parts for where in part] == asked
    for part in parts:
        assert 0 < len(part) <= RANGES_MAX
        assert sum(length for _, length in part) <= QUESTION_BYTES


@pytest.mark.parametrize(
    "asked",
    [
        7,
        [[0]],
        [[0, 1, 2]],
        [["0", 1]],
        [[-BLOCK, BLOCK]],
        [[True, BLOCK]],
        [[0, 0]],
        [[512, BLOCK]],
        [[0, RANGE_MAX + 1]],
        [[SIZE, BLOCK]],
        [[SIZE - BLOCK, BLOCK + 1]],
        [[1 << 70, BLOCK]],
        [[0, BLOCK]] * (RANGES_MAX + 1),
        [[0, RANGE_MAX]] * (QUESTION_BYTES // RANGE_MAX + 1),
    ],
)
def test_a_stranger_s_ranges_are_refused_when_they_are_too_large_or_elsewhere(asked: Any) -> None:
    with pytest.raises(MessageError):
        read_ranges(Members({"ranges": asked}, "a question"), SIZE)
