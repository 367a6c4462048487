"""The trial ``migrate -n``: says whether a migration would be accepted, how long it takes and if it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qmon.hmp.commands.migration_info import left_behind_lines
from qmon.hmp.handlers import Call
from qmon.hmp.migration_words import what_helps
from qmon.hmp.person import LineError
from qmon.notation.units import duration, human_size

ANNOUNCE_SECONDS = 0.3
"""What fails at once needs no announcement."""


async def try_out(call: Call, arguments: Mapping[str, Any]) -> None:
    """Run the trial and print its result. Raises LineError if the migration would be refused."""
    check_flags(call)
    announcement = asyncio.get_running_loop().call_later(ANNOUNCE_SECONDS, _announce, call)
    try:
        result = await call.execute("x-qmon-migrate-trial", arguments)
    finally:
        announcement.cancel()
    if result["mismatches"]:
        raise LineError(refusal(result["mismatches"]))
    for line in trial_lines(result):
        call.print(line)


def check_flags(call: Call) -> None:
    """Raises LineError for a flag that a trial can't have."""
    for flag, letter in (("detach", "d"), ("resume", "r")):
        if call.flag(flag):
            raise LineError(f"migrate: -n can't be used with -{letter}: a trial moves nothing")


def _announce(call: Call) -> None:
    if call.person.interactive:
        call.print("A trial: nothing is moved. The line is measured for a few seconds.")


def refusal(mismatches: Sequence[str], verb: str = "would be") -> str:
    """Return the error of a migration that would be refused, or is: all reasons, one a line."""
    if len(mismatches) == 1:
        return f"Error: The migration {verb} refused: {mismatches[0]}"
    reasons = "".join(f"\n  {number}. {each}" for number, each in enumerate(mismatches, 1))
    return f"Error: The migration {verb} refused for {len(mismatches)} reasons:{reasons}"


def trial_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for the result of a trial that found nothing to refuse."""
    yield f"{result['x-qmon-peer']} would accept the migration."
    if result["mode"] == "shared":
        yield "  to send: nothing, both sides use the same disks"
    else:
        yield from _figures(result)
    for warning in result["warnings"]:
        yield f"warning: {warning}"
    yield from left_behind_lines(result)


def _figures(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"  to send:      {trial_sizes(result['x-qmon-disks'])}"
    limited = ", held back by max-bandwidth" if result["is-limited"] else ""
    yield f"  line:         {human_size(result['rate'])}/s{limited}"
    yield f"  guests write: {human_size(result['x-qmon-guest-write-rate'])}/s"
    if not result["converges"]:
        yield from _without_end(result.get("x-qmon-not-converging"))
        return
    time = took(result["duration"] / 1000)
    yield f"  would take:   {time}, downtime about {result['expected-downtime']} ms"


def trial_sizes(disks: Sequence[Mapping[str, Any]]) -> str:
    """Return how much data is to be sent, and of several disks how much of each."""
    sizes = [f"{each['drive']} {human_size(each['data'])}" for each in disks]
    detail = f" ({', '.join(sizes)})" if len(disks) > 1 else ""
    return f"{human_size(sum(each['data'] for each in disks))}{detail}"


def _without_end(advice: Mapping[str, Any] | None) -> Iterator[str]:
    if advice is None:
        yield "  would take:   for ever: the destination takes no data"
        return
    yield f"  would take:   for ever: {advice['reason']}"
    yield what_helps(advice, has_begun=False)


def took(seconds: float) -> str:
    """Return a time: below 10 seconds with a fraction."""
    if seconds < 0.1:
        return "less than 0.1 s"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
