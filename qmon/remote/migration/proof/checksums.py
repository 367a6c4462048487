"""Digests of ranges of an export, computed by the console next to its QEMU. Data stay where they are.

Each console reads the export of its own QEMU by NBD, in threads. The two exchange digests. The other side
names the ranges, so they are bounded.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import xxhash

from qmon.errors import QmonError, naming
from qmon.host.threads import Workers
from qmon.nbd.client import Extent, NbdClient
from qmon.remote.migration.wire.message import NUMBER_MAX, Members, MessageError

Range = tuple[int, int]
"""A range of an export: (offset, length) in bytes."""

Connect = Callable[[], Awaitable[socket.socket]]
"""Connects to the NBD server of this side's QEMU. Raises QmonError."""

T = TypeVar("T")

BLOCK = 64 << 10
"""Ranges begin at multiples of this, and a sample is one such block."""

RANGE_MAX = 1 << 20
"""Bytes of one range."""

RANGES_MAX = 1024
"""Ranges in one question."""

QUESTION_BYTES = 64 << 20
"""Bytes in one question: a slow disk of 20 MB/s needs 3 s for them, and the heart beats meanwhile."""

CONNECTIONS = 2
"""Connections to one export: while QEMU reads for one, the other's data are hashed."""

SEARCH_BYTES = 64 << 20
"""How far behind a random place data are searched for: a disk may be nearly empty."""

TRIES = 4
"""Random places for each block that is wanted: some lead to the same block."""

ALLOCATION = "base:allocation"

_READS_AS_ZERO = 2
_ZEROS = bytes(BLOCK)
_PLACE = struct.Struct(">Q")
_SECONDS_MAX = 600


class Digester:
    """Reads one export. Its connections are made by ``open``, so that later no time is lost for them."""

    def __init__(self, connect: Connect, export: str, contexts: Sequence[str] = ()) -> None:
        self.size = 0
        """The size of the export in bytes."""
        self.contexts: frozenset[str] = frozenset()
        """The metadata contexts that the server has for it."""
        self._connect = connect
        self._export = export
        self._contexts = (ALLOCATION, *contexts)
        self._clients: list[NbdClient] = []
        self._buffers = [memoryview(bytearray(RANGE_MAX)) for _ in range(CONNECTIONS)]
        self._workers: Workers | None = None
        self._ends = threading.Event()
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Connect. Raises QmonError."""
        with naming("comparing disks needs threads"):
            self._workers = Workers(CONNECTIONS, "digests")
        try:
            for _ in range(CONNECTIONS):
                sock = await self._connect()
                self._clients.append(await self._run(NbdClient, sock, self._export, self._contexts))
        except BaseException:
            await self.close()
            raise
        self.size, self.contexts = self._clients[0].size, self._clients[0].contexts

    async def close(self) -> None:
        """End the connections, and what is computed on them. Idempotent."""
        self._interrupt()
        workers, self._workers = self._workers, None
        if workers is not None:
            await asyncio.to_thread(workers.shutdown)
        for client in self._clients:
            client.close()

    async def digests(self, ranges: Sequence[Range], seconds: float = _SECONDS_MAX) -> list[str]:
        """Return the digests of the first ranges, as many as could be read in time, but at least one.

        Two of them are the same if both ranges hold the same bytes, whether as holes or not.
        Raises QmonError.
        """
        deadline = time.monotonic() + seconds
        waiting = iter(enumerate(ranges))  # its next() is one step for all threads
        found: dict[int, str] = {}

        def work(client: NbdClient, buffer: memoryview) -> None:
            for index, where in waiting:
                found[index] = digest(client, where, buffer)
                if time.monotonic() > deadline or self._ends.is_set():
                    return

        pairs = zip(self._clients, self._buffers, strict=True)
        async with self._alone():
            await asyncio.gather(*(self._run(work, client, buffer) for client, buffer in pairs))
        return list(itertools.takewhile(bool, (found.get(index, "") for index in range(len(ranges)))))

    async def places(self, count: int, seed: int) -> list[Range]:
        """Return some blocks to compare: the first, the last, and random ones, half of them with data.

        The seed decides which. Their order is random, too, so that the first few stand for all.
        Raises QmonError.
        """
        async with self._alone():
            return await self._run(choose, self._clients[0], count, random.Random(seed))

    async def first(self, context: str, status: int) -> int | None:
        """Return where the first extent of a status begins; None if there is none. Raises QmonError."""

        def search() -> int | None:
            at = 0
            for length, found in self._clients[0].extents(context, 0, self.size):
                if found == status:
                    return at
                at += length
            return None

        async with self._alone():
            return await self._run(search)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Use the connections alone. If the caller is cancelled, they are of no more use: threads go on."""
        async with self._turn:
            try:
                yield
            except asyncio.CancelledError:
                self._interrupt()
                raise

    def _interrupt(self) -> None:
        self._ends.set()
        for client in self._clients:
            client.interrupt()

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        if self._workers is None:
            raise QmonError("the comparison of disks has ended")
        return await asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)


def digest(client: NbdClient, where: Range, buffer: memoryview) -> str:
    """Return a range's digest in hexadecimal; blocks of zeros are left out of it. Raises NbdError."""
    state = xxhash.xxh3_128()
    for start, length in _data(client, where):
        piece = buffer[:length]
        client.read_into(start, piece)
        for at in range(0, length, BLOCK):
            block = piece[at : at + BLOCK]
            if not _ZEROS.startswith(block):
                state.update(_PLACE.pack(start + at))
                state.update(block)
    return str(state.hexdigest())


def _data(client: NbdClient, where: Range) -> Iterator[Range]:
    """Yield the parts of a range, in whole blocks, that don't read as zeros by the server's word."""
    position, length = where
    end = position + length
    if length <= BLOCK or ALLOCATION not in client.contexts:
        yield where
        return
    at = position
    for span, status in joined(client.extents(ALLOCATION, position, length)):
        at += span
        if not status & _READS_AS_ZERO and at > position:
            begin = max(position, (at - span) // BLOCK * BLOCK)
            position = min(end, -(-at // BLOCK) * BLOCK)
            yield begin, position - begin


def joined(extents: Iterator[Extent]) -> Iterator[Extent]:
    """Join neighbours of one status."""
    for status, group in itertools.groupby(extents, key=lambda each: each[1]):
        yield sum(length for length, _ in group), status


def choose(client: NbdClient, count: int, chance: random.Random) -> list[Range]:
    """Return the places of ``Digester.places``. Raises NbdError."""
    blocks = -(-client.size // BLOCK)
    if blocks <= count:
        chosen = set(range(blocks))
    else:
        chosen = {0, blocks - 1}
        for number in range(TRIES * count):
            if len(chosen) >= count:
                break
            block = chance.randrange(blocks)
            chosen.add(_with_data(client, block, chance) if number % 2 else block)
    order = sorted(chosen)
    chance.shuffle(order)
    return [(block * BLOCK, min(BLOCK, client.size - block * BLOCK)) for block in order]


def _with_data(client: NbdClient, block: int, chance: random.Random) -> int:
    """Return a block of the first data from a block on; the block itself if none are near."""
    if ALLOCATION not in client.contexts:
        return block
    at = block * BLOCK
    for length, status in client.block_status(ALLOCATION, at, min(SEARCH_BYTES, client.size - at)):
        if not status & _READS_AS_ZERO:
            return (at + chance.randrange(length)) // BLOCK
        at += length
    return block


def all_ranges(size: int) -> list[Range]:
    """Return ranges that cover an export."""
    return [(start, min(RANGE_MAX, size - start)) for start in range(0, size, RANGE_MAX)]


def questions(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """Split ranges into as many as one question may have."""
    question: list[Range] = []
    total = 0
    for where in ranges:
        if len(question) == RANGES_MAX or total + where[1] > QUESTION_BYTES:
            yield question
            question, total = [], 0
        question.append(where)
        total += where[1]
    if question:
        yield question


def read_ranges(message: Members, size: int) -> list[Range]:
    """Read the ``ranges`` of the other side's question about an export of ``size`` bytes.

    Raises MessageError.
    """

    def read(value: object) -> Range:
        if not isinstance(value, list) or len(value) != 2:
            raise MessageError("a range of a disk is no pair of numbers")
        part = Members({"offset": value[0], "length": value[1]}, "a range of a disk")
        return part.number("offset", NUMBER_MAX), part.number("length", RANGE_MAX)

    ranges = message.each("ranges", RANGES_MAX, read)
    for offset, length in ranges:
        if offset % BLOCK or not length or offset + length > size:
            raise MessageError(f"{length} bytes at {offset} can't be compared: the disk has {size} bytes")
    if sum(length for _, length in ranges) > QUESTION_BYTES:
        raise MessageError(f"a question about disks has more than {QUESTION_BYTES >> 20} MiB")
    return list(ranges)


def read_digests(message: Members) -> list[str]:
    """Read the ``digests`` of the other side's answer. Raises MessageError."""
    return list(message.texts("digests", RANGES_MAX, 32))
