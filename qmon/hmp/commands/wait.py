"""Waiting for a migration or a block job to end."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.commands.migration_end import told_end
from qmon.hmp.commands.migration_info import left_behind_lines
from qmon.hmp.handlers import Call, handler
from qmon.hmp.jobs import READY
from qmon.hmp.migration_state import is_over, moves_guest_away
from qmon.hmp.migration_words import amount, end, pace
from qmon.hmp.person import LineError, Progress
from qmon.qmp.target import Event

LOOK_SECONDS = 1.0
"""The interval of queries if no event arrives: some targets emit migration events only with a capability, and
progress has no event."""


@handler("hmp_wait")
async def wait(call: Call) -> None:
    what, words = (
        call.text("what", "migrate"),
        [call.text(key) for key in ("id", "timeout") if key in call.values],
    )
    if what == "migrate" and len(words) < 2:
        await _wait(call, "the migration", _look_at_migration, words[0] if words else None)
    elif what == "job" and words:
        name = words[0]

        await wait_for_job(call, name, words[1] if len(words) == 2 else None)
    else:
        raise LineError("wait: expected 'migrate [TIMEOUT]' or 'job ID [TIMEOUT]'")


async def wait_for_job(
    call: Call, name: str, patience: str | None = None, *, until_ready: bool = True
) -> None:
    """Show the progress of a job until it has ended, or, with ``until_ready``, waits for a command.

    ``patience`` is the longest time in seconds. Raises CommandError if the job has failed, LineError if it
    takes longer.
    """

    async def look(call: Call, progress: Progress) -> str | None:
        return await _look_at_job(call, progress, name, until_ready)

    await _wait(call, f"the job '{name}'", look, patience)


_Look = Callable[[Call, Progress], Awaitable[str | None]]
"""Return the state of the job or migration, None if it has ended. Raises QmonError if it has failed."""


async def _wait(call: Call, what: str, look: _Look, patience: str | None) -> None:
    seconds = _seconds(patience)
    news = asyncio.Event()

    def hear(event: Event) -> None:
        if event.name == "MIGRATION" or "JOB" in event.name:
            news.set()

    state: str | None = None
    progress = call.person.progress(what.removeprefix("the "))
    unsubscribe = call.monitor.target.subscribe(hear)
    try:
        async with asyncio.timeout(seconds):
            while True:
                news.clear()
                state = await look(call, progress)
                if state is None:
                    return
                await _until(news)
    except TimeoutError as error:
        raise LineError(f"wait: {what} is still {state or 'unknown'} after {patience} s") from error
    except asyncio.CancelledError:
        if call.person.interactive:
            call.print(f"{what[0].upper()}{what[1:]} continues")
        raise
    finally:
        unsubscribe()
        progress.close()


async def _until(news: asyncio.Event) -> None:
    # Not asyncio.wait_for: in Python 3.11 it loses a cancellation that happens together with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_SECONDS):
            await news.wait()


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise LineError(f"wait: expected a number of seconds, found '{text}'")
    return seconds


async def _look_at_migration(call: Call, progress: Progress) -> str | None:
    info: Mapping[str, Any] = await call.execute("query-migrate")
    if "status" not in info or info["status"] == "none":
        status = await call.execute("query-status")
        if status["status"] != "inmigrate":
            raise LineError("wait: there is no migration to wait for")
        return "awaited"
    if is_over(info):
        await told_end(call, info)
        tells_all = call.person.interactive or moves_guest_away(info)
        for line in end(info) if tells_all else left_behind_lines(info):
            call.print(line)
        return None
    if (moved := amount(info)) is not None:
        progress.update(*moved, pace(info))
    return str(info["status"])


async def _look_at_job(call: Call, progress: Progress, name: str, until_ready: bool) -> str | None:
    ends = call.monitor.jobs
    job = None if name in ends else await _find_job(call, name)
    if name in ends:  # the event of an end comes before an answer without the job
        if (error := ends.error(name)) is not None:
            raise CommandError(error)
        return None
    if job is None:
        raise CommandError(f"Job not found: '{name}'")
    if job["status"] in READY and until_ready:
        return None
    if job["status"] == "concluded":
        if "error" in job:
            raise CommandError(job["error"])
        return None
    progress.update(job["done"], job["total"])
    return str(job["status"])


async def _find_job(call: Call, name: str) -> Mapping[str, Any] | None:
    """Return a job's status, error and progress, None if there is no job with this id."""
    if call.has("query-jobs"):
        jobs = await call.execute("query-jobs")
        found = next((job for job in jobs if job["id"] == name), None)
        return found and {**found, "done": found["current-progress"], "total": found["total-progress"]}
    if not call.has("query-block-jobs"):
        raise LineError("wait: this target has no jobs")
    jobs = await call.execute("query-block-jobs")
    found = next((job for job in jobs if job["device"] == name), None)
    return found and {
        "status": "ready" if found.get("ready") else found.get("status", "running"),
        **({"error": found["error"]} if "error" in found else {}),
        "done": found["offset"],
        "total": found["len"],
    }
