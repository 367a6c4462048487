"""Compares read-only drives, which are not copied: the guest relies on them at the destination, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qmon.errors import ProblemsError
from qmon.notation.plain_text import one_line
from qmon.remote.migration.agreement.matching import Pair
from qmon.remote.migration.proof.comparison import (
    Ask,
    Compared,
    compare,
    how_much,
    ranges_of,
)
from qmon.remote.migration.proof.views import Views, exports_before, read_nodes
from qmon.remote.migration.wire.message import Members
from qmon.remote.remote import Remote

READ_ONLY = "read-only"
"""The request to show read-only drives: ``mark``, and ``nodes``, the names of the top nodes."""


def _view(number: int, mark: str) -> str:
    return f"qmon-r{number}-{mark}"


async def show_read_only(views: Views, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Answer READ_ONLY. Raises QmonError."""
    message = Members(arguments, "a question about read-only drives")
    mark = message.text("mark", 16)
    for number, node in enumerate(read_nodes(message)):
        await views.export(node, _view(number, mark))
    return {}


async def compare_read_only(
    remote: Remote, pairs: Sequence[Pair], mark: str, ask: Ask, verify: str, seed: int
) -> str:
    """Compare the drives of both sides; return how that was done, "" if it was not.

    Raises ProblemsError with a line for each drive that differs, QmonError.
    """
    if not pairs or verify == "off":
        return ""
    total = Compared()
    wrong = []
    async with exports_before(remote, ask) as views:
        await ask(READ_ONLY, {"mark": mark, "nodes": [pair.destination.node for pair in pairs]})
        for number, pair in enumerate(pairs):
            view = _view(number, mark)
            ranges = await ranges_of(await views.export(pair.source.node, view), verify, seed + number)
            found = await compare(views, view, ask, view, ranges)
            total.add(found)
            if found.differing:
                wrong.append(one_line(_different(pair, *min(found.differing))))
    if wrong:
        raise ProblemsError(wrong)
    return how_much(verify, total, "read-only drives")


def _different(pair: Pair, offset: int, length: int) -> str:
    return (
        f"drive '{pair.source.name}' is read-only, so it is not copied, and it holds something else at the"
        f" destination, in the {length} bytes at {offset}: start the destination with a copy of"
        f" {pair.source.file}"
    )
