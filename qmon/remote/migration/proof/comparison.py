"""Compares exports of both sides: each console computes digests of its own, and the digests are compared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qmon.errors import CommandError
from qmon.notation.units import human_size
from qmon.remote.migration.proof.checksums import (
    Digester,
    Range,
    all_ranges,
    questions,
    read_digests,
)
from qmon.remote.migration.proof.views import DIGESTS, Views, question
from qmon.remote.migration.wire.message import Members

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Asks the other console; returns its answer. Raises QmonError."""

SAMPLES_BEFORE = 256
"""Blocks of an image that are compared before a copy, 16 MiB: nothing stands still meanwhile."""

QUESTION_SECONDS = 50.0
"""How long one question may take without another limit; a channel waits for an answer a little longer."""


@dataclass(slots=True)
class Compared:
    """The result of a comparison: the ranges that were compared, and those of them that differ."""

    ranges: list[Range] = field(default_factory=list)
    differing: list[Range] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many bytes were compared."""
        return sum(length for _, length in self.ranges)

    def add(self, other: Compared) -> None:
        self.ranges += other.ranges
        self.differing += other.differing


async def compare(
    views: Views, ours: str, ask: Ask, theirs: str, ranges: Sequence[Range], deadline: float | None = None
) -> Compared:
    """Compare ranges of two exports: all, or as many of the first ones as can be read until ``deadline``.

    That is a time of the event loop; at least one is compared. Raises QmonError.
    """
    result = Compared()
    for part in questions(ranges):
        waiting = part
        while waiting:
            left = QUESTION_SECONDS
            if deadline is not None:
                left = min(left, deadline - asyncio.get_running_loop().time())
            if left <= 0 and result.ranges:
                return result
            found = await _compare_at_once(views, ours, ask, theirs, waiting, max(left, 0))
            result.add(found)
            waiting = waiting[len(found.ranges) :]
    return result


async def ranges_of(export: Digester, verify: str, seed: int) -> list[Range]:
    """Return what to compare of an export before a copy; ``verify`` is sample or full. Raises QmonError."""
    return all_ranges(export.size) if verify == "full" else await export.places(SAMPLES_BEFORE, seed)


def how_much(verify: str, compared: Compared, of: str) -> str:
    """Say how much of something was compared before a copy."""
    if verify == "full":
        return f"all {human_size(compared.size)} of the {of} compared"
    return f"{len(compared.ranges)} samples of the {of} compared"


async def _compare_at_once(
    views: Views, ours: str, ask: Ask, theirs: str, ranges: list[Range], seconds: float
) -> Compared:
    here = asyncio.create_task(views[ours].digests(ranges, seconds))
    try:
        answer = await ask(DIGESTS, question(theirs, ranges, seconds))
    except BaseException:
        here.cancel()
        raise
    there = read_digests(Members(answer, "the answer to a question about disks"))
    both = list(zip(ranges, await here, there, strict=False))
    if not both:
        raise CommandError("the other console has compared nothing")
    return Compared([where for where, _, _ in both], [where for where, mine, other in both if mine != other])
