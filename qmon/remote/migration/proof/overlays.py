"""Proves that an incremental copy can be whole: equal backing images on both sides, empty overlays there.

QEMU checks neither. Both consoles export the nodes behind the overlays read-only and compare them. The
destination's console asks for the allocation depth of its overlays (QEMU, docs/interop/nbd). What a guest
sees of a backing image is compared, however long the chain behind it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError, ProblemsError, QmonError
from qmon.nbd.client import ALLOCATION_DEPTH
from qmon.notation.plain_text import one_line
from qmon.remote.migration.agreement.matching import Pair
from qmon.remote.migration.agreement.overlay_files import create_line
from qmon.remote.migration.proof.comparison import (
    Ask,
    Compared,
    compare,
    how_much,
    ranges_of,
)
from qmon.remote.migration.proof.views import (
    Views,
    backing_nodes,
    exports_before,
    read_nodes,
)
from qmon.remote.migration.wire.message import Members
from qmon.remote.remote import Remote

OVERLAYS = "overlays"
"""The request to show overlays: ``mark``, and ``nodes``, the names of the top nodes."""

_TOP_LAYER = 1


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay at the destination, as its console has found it."""

    size: int
    """The size of its backing image in bytes; 0 if it has none."""
    own_data: int
    """Where the first data of its own begin; -1 if it is empty."""

    def to_message(self) -> dict[str, Any]:
        return {"size": self.size, "is-empty": self.own_data < 0, "at": max(0, self.own_data)}

    @classmethod
    def from_message(cls, value: object) -> Overlay:
        """Raises MessageError."""
        read = Members(value, "the description of an overlay")
        return cls(read.number("size"), -1 if read.flag("is-empty") else read.number("at"))


# The destination


class OverlaysShown:
    """The destination's overlays and their backing images, by exports on a server of its console."""

    def __init__(self, remote: Remote, views: Views) -> None:
        self._remote = remote
        self._views = views

    async def show(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answer OVERLAYS. Raises QmonError."""
        message = Members(arguments, "a question about overlays")
        mark, nodes = message.text("mark", 16), read_nodes(message)
        behind = await backing_nodes(self._remote)
        shown = [
            await self._look_at(node, behind.get(node, ""), number, mark) for number, node in enumerate(nodes)
        ]
        return {"overlays": [each.to_message() for each in shown]}

    async def _look_at(self, node: str, backing: str, number: int, mark: str) -> Overlay:
        if not backing:
            return Overlay(0, -1)
        depths = await self._views.export(node, overlay_name(number, mark), allocation_depth=True)
        if ALLOCATION_DEPTH not in depths.contexts:
            raise CommandError(
                "this QEMU can't tell whether an overlay is empty: QEMU 5.2 or later is needed"
            )
        own = await depths.first(ALLOCATION_DEPTH, _TOP_LAYER)
        content = await self._views.export(backing, backing_name(number, mark))
        return Overlay(content.size, -1 if own is None else own)


def overlay_name(number: int, mark: str) -> str:
    return f"qmon-o{number}-{mark}"


def backing_name(number: int, mark: str) -> str:
    return f"qmon-b{number}-{mark}"


# The source


async def prove_overlays(
    remote: Remote, pairs: Sequence[Pair], mark: str, ask: Ask, verify: str, seed: int
) -> str:
    """Compare all backing images; return how that was done, "" if there is none.

    ``verify`` is off, sample or full. Raises ProblemsError with a line for each overlay that is not as it
    must be, QmonError.
    """
    pairs = [pair for pair in pairs if pair.source.backing]
    if not pairs:
        return ""
    async with exports_before(remote, ask) as views:
        nodes = [pair.destination.node for pair in pairs]
        answer = Members(await ask(OVERLAYS, {"mark": mark, "nodes": nodes}), "the description of overlays")
        overlays = answer.each("overlays", len(pairs), Overlay.from_message)
        if len(overlays) != len(pairs):
            raise QmonError("the destination's console has not told of all overlays")
        return await _Proof(remote, views, mark, ask, verify, seed).of(pairs, overlays)


class _Proof:
    def __init__(self, remote: Remote, views: Views, mark: str, ask: Ask, verify: str, seed: int) -> None:
        self._remote = remote
        self._views = views
        self._mark = mark
        self._ask = ask
        self._verify = verify
        self._seed = seed

    async def of(self, pairs: Sequence[Pair], overlays: Sequence[Overlay]) -> str:
        behind = await backing_nodes(self._remote)
        wrong: list[str] = []
        total = Compared()
        for number, (pair, overlay) in enumerate(zip(pairs, overlays, strict=True)):
            node = behind.get(pair.source.node)
            if node is None:
                wrong.append(f"drive '{pair.source.name}' has no backing node at the source: leave out 'inc'")
                continue
            content = await self._views.export(node, backing_name(number, self._mark))
            found = _wrong_overlay(pair, overlay, content.size)
            if not found and self._verify != "off":
                found = await self._compare(pair, number, total)
            wrong += found
        if wrong:
            raise ProblemsError(list(map(one_line, wrong)))
        return "" if self._verify == "off" else how_much(self._verify, total, "backing images")

    async def _compare(self, pair: Pair, number: int, total: Compared) -> list[str]:
        name = backing_name(number, self._mark)
        ranges = await ranges_of(self._views[name], self._verify, self._seed + number)
        found = await compare(self._views, name, self._ask, name, ranges)
        total.add(found)
        if not found.differing:
            return []
        offset, length = min(found.differing)
        return [
            f"the backing image of drive '{pair.source.name}' differs between the source and the destination,"
            f" in the {length} bytes at {offset}: {_anew(pair)}"
        ]


def _wrong_overlay(pair: Pair, overlay: Overlay, size: int) -> list[str]:
    name = pair.source.name
    if not overlay.size:
        return [
            f"drive '{name}' has a backing image at the source and none at the destination: {_anew(pair)}"
        ]
    wrong = []
    if overlay.size != size:
        wrong.append(
            f"the backing image of drive '{name}' has {size} bytes at the source and {overlay.size} at the"
            f" destination: {_anew(pair)}"
        )
    if overlay.own_data >= 0:
        wrong.append(
            f"the overlay of drive '{name}' is not empty at the destination (data at byte"
            f" {overlay.own_data}): make it anew with '{_create(pair)}', and start its QEMU again"
        )
    return wrong


def _anew(pair: Pair) -> str:
    where = pair.destination.backing or pair.source.backing
    return (
        f"copy the source's {pair.source.backing} there as {where}, and make the overlay with"
        f" '{_create(pair)}'"
    )


def _create(pair: Pair) -> str:
    """Return the command that makes the overlay; what is not known is a word in capitals."""
    theirs, ours = pair.destination, pair.source
    backing = theirs.backing or ours.backing
    format_ = (theirs.backing_format if theirs.backing else "") or ours.backing_format or "FORMAT"
    return create_line(theirs.file or "FILE", theirs.size, backing, format_)
