"""Compares the copied disks of both sides before the guest moves: samples, or all that no longer changes.

Everything is opened while the guest runs, so that it does not stand still for that. A sample is compared
when the guest has stopped and the copies have ended. With ``full`` the disks are compared while the guest
writes, too; what differs then is compared again when the guest has stopped.

Some QEMUs must not have a client of their NBD server while something else in them happens (``fragile.py``).
There the source's disks are opened and closed again when the samples are chosen and when they are compared.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from qmon.errors import QmonError
from qmon.notation.units import human_size
from qmon.remote.migration.lines.private_server import PrivateServer
from qmon.remote.migration.proof.checksums import BLOCK, Range, all_ranges
from qmon.remote.migration.proof.comparison import Ask, Compared, compare
from qmon.remote.migration.proof.fragile import has_fragile_server
from qmon.remote.migration.proof.views import Views, start_server, stop_server
from qmon.remote.remote import Remote

COMPARE = "compare"
"""The request to make the exports of the disks ready for comparison: ``views``, their names."""

SAMPLES = 32
"""Blocks of each disk that are compared at most while the guest stands still, 2 MiB."""

SAMPLE_SHARE = 0.25
"""The share of the downtime limit that may pass for samples: memory is to be sent in the rest."""

WARM_SECONDS = 1.0
"""How long they are read before, and how long before the copies are ready that begins."""

PATIENCE_SECONDS = 3.0
"""How much later than in its time a comparison may end while the guest stands still."""

ROUNDS = 4
"""How often what differs is compared again while the guest writes, each time in smaller parts."""

AT_A_TIME = 8
"""Disks that are compared at a time."""


@dataclass(slots=True)
class DiskCheck:
    """One disk: what a person calls it, its node at the source, and the export at the destination."""

    name: str
    node: str
    export: str
    sample: list[Range] = field(default_factory=list)
    changing: list[Range] = field(default_factory=list)
    """What differed while the guest wrote."""

    @property
    def view(self) -> str:
        """The export of ours at the source."""
        return self.export.replace("qmon-x", "qmon-c", 1)


class DifferenceError(QmonError):
    """The copy of a disk differs from the disk although nothing is written to it any more."""


class Verification:
    """The comparison of the disks, made by the source's console: prepare, open, look, warm, check, close."""

    def __init__(self, remote: Remote, disks: Sequence[DiskCheck], ask: Ask, mode: str, seed: int) -> None:
        """``mode`` is sample or full."""
        self._remote = remote
        self._views = Views(PrivateServer(remote))
        self._disks = disks
        self._ask = ask
        self._mode = mode
        self._seed = seed
        self._at_a_time = asyncio.Semaphore(AT_A_TIME)
        self._moving = Compared()
        self._warming: asyncio.Task[None] | None = None
        self.is_fragile = False
        """Whether the source's QEMU must do nothing else while its disks are read."""

    @property
    def is_full(self) -> bool:
        """Whether all is to be compared."""
        return self._mode == "full"

    async def prepare(self) -> None:
        """Start the source's NBD server, before the copies: if that is not possible, it is known early.

        Raises QmonError.
        """
        self.is_fragile = await has_fragile_server(self._remote)
        await start_server(self._views.server, "source")
        if self.is_fragile:
            await self._export()
            await self._choose()
            await self._close_here()

    async def open(self) -> None:
        """Make all connections. Raises QmonError."""
        await self._ask(COMPARE, {"views": [disk.export for disk in self._disks]})
        if not self.is_fragile:
            await self._export()

    async def _export(self) -> None:
        for disk in self._disks:
            await self._views.export(disk.node, disk.view)

    async def _close_here(self) -> None:
        """Stop the server with its clients. A fragile QEMU fails if it is the client that ends first."""
        await stop_server(self._remote, self._views.server)
        await self._views.close()

    async def _choose(self) -> None:
        for number, disk in enumerate(self._disks):
            disk.sample = await self._views[disk.view].places(SAMPLES, self._seed + number)

    def warm(self) -> None:
        """Begin to choose the samples and to read them once, which brings them into memory; idempotent."""
        if self._warming is None:
            self._warming = asyncio.create_task(self._warm())

    async def _warm(self) -> None:
        """What differs now may be on its way. Raises QmonError."""
        if self.is_fragile:
            return
        deadline = asyncio.get_running_loop().time() + WARM_SECONDS
        await self._choose()
        await asyncio.gather(*(self._compare(disk, disk.sample, deadline) for disk in self._disks))

    async def look(self) -> None:
        """Compare all while the guest runs; note what differs. Raises QmonError."""
        await asyncio.gather(*map(self._look_at, self._disks))

    async def check(self, downtime_limit: float) -> str:
        """Compare while nothing is written; return how, in words. ``downtime_limit`` is in seconds.

        The source's server is stopped then; ``close`` does the rest when the guest runs again.
        Raises DifferenceError, QmonError.
        """
        seconds = downtime_limit * (1 if self.is_full else SAMPLE_SHARE)
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout(seconds + PATIENCE_SECONDS):
                self.warm()
                assert self._warming is not None
                await self._warming
                if self.is_fragile:
                    await start_server(self._views.server, "source")
                    await self._export()
                results = await asyncio.gather(*(self._check(disk, deadline) for disk in self._disks))
        except TimeoutError as error:
            raise QmonError(
                f"the disks could not be compared within {seconds + PATIENCE_SECONDS:.0f} s: the storage or"
                " the connection does not answer, and the guest would stand still too long"
            ) from error
        for disk, result in zip(self._disks, results, strict=True):
            if result.differing:
                offset, length = min(result.differing)
                raise DifferenceError(
                    f"the copy of drive '{disk.name}' differs from it in the {length} bytes at"
                    f" {offset}: another program has written to the destination's image, or storage is broken"
                )
        total = Compared()
        for result in results:
            total.add(result)
        await stop_server(self._remote, self._views.server)
        return self._words(total)

    async def close(self) -> None:
        """End the connections and the server; idempotent. Raises CommandError."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
            if not self._warming.cancelled():
                self._warming.exception()  # the check has told it, or was not made
        await self._close_here()

    async def _compare(
        self, disk: DiskCheck, ranges: Sequence[Range], deadline: float | None = None
    ) -> Compared:
        async with self._at_a_time:
            return await compare(self._views, disk.view, self._ask, disk.export, ranges, deadline)

    async def _look_at(self, disk: DiskCheck) -> None:
        size = self._views[disk.view].size
        found = await self._compare(disk, all_ranges(size))
        self._moving.ranges += found.ranges
        disk.changing = found.differing
        for _ in range(ROUNDS):
            if not disk.changing:
                return
            found = await self._compare(disk, list(_blocks(disk.changing)))
            disk.changing = found.differing

    async def _check(self, disk: DiskCheck, deadline: float) -> Compared:
        """Compare what was changing first, then the sample."""
        chosen = dict.fromkeys(itertools.chain(disk.changing, disk.sample))
        return await self._compare(disk, list(chosen), deadline)

    def _words(self, still: Compared) -> str:
        stood = "while the guest stood still"
        if not self.is_full:
            return f"{len(still.ranges)} samples of the disks, {human_size(still.size)}, compared {stood}"
        text = f"all {human_size(self._moving.size)} of the disks compared, {human_size(still.size)} {stood}"
        seen = set(still.ranges)
        rest = sum(each[1] for disk in self._disks for each in disk.changing if each not in seen)
        return f"{text}; {human_size(rest)} were being written and are not compared" if rest else text


def _blocks(ranges: Sequence[Range]) -> Iterator[Range]:
    for offset, length in ranges:
        for at in range(offset, offset + length, BLOCK):
            yield at, min(BLOCK, offset + length - at)
