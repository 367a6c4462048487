"""Tools for people: running lines from a file, repeatedly, or timed; transcripts; QMP commands by name."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from qmon.errors import CommandError, UsageError, reason
from qmon.hmp import scripts
from qmon.hmp.handlers import Call, handler
from qmon.hmp.line.reading import DEPTH_MAX
from qmon.hmp.person import AtTerminal, InnerLineError, LineError
from qmon.hmp.record import Transcript
from qmon.notation.json_text import parse_json, pretty_json

INTERVAL_SECONDS = 1.0
"""The interval of ``watch``, unless another is given."""
INTERVAL_LEAST_SECONDS = 0.1


@handler("hmp_include")
async def include(call: Call) -> None:
    await scripts.include(call.monitor, call.person, call.text("filename"), call.origin)


async def _run_inner(call: Call) -> None:
    """Run the line that is this line's argument. Raises LineError."""
    inner = call.reading.inner
    if inner is None or call.reading.is_too_deep:
        raise LineError(f"{call.typed}: at most {DEPTH_MAX} lines can be nested")
    error = await call.monitor.run(inner, call.person, call.origin)
    if error is not None:
        raise InnerLineError(error)


@handler("hmp_time")
async def time_(call: Call) -> None:
    began = time.perf_counter()
    try:
        await _run_inner(call)
    except InnerLineError:
        call.print(_took(began))
        raise
    call.print(_took(began))


def _took(began: float) -> str:
    return f"Took {time.perf_counter() - began:.3f} s"


@handler("hmp_watch")
async def watch(call: Call) -> None:
    count = _count(call)
    interval = float(call.values.get("interval", INTERVAL_SECONDS))
    if interval < INTERVAL_LEAST_SECONDS:
        raise LineError(f"watch: the interval is at least {INTERVAL_LEAST_SECONDS} seconds")
    picture = call.person.picture() if isinstance(call.person, AtTerminal) else None
    if picture is None:
        await _repeat(call, count, interval, paint=None)
    else:
        with picture as painted:
            await _repeat(call, count, interval, painted.paint)


async def _repeat(call: Call, count: int | None, interval: float, paint: Callable[[], None] | None) -> None:
    """Run the line ``count`` times; call ``paint`` after each answer. Raises LineError if it fails.

    If it runs endlessly, each picture says what ends it; without pictures the first answer does.
    """
    loop = asyncio.get_running_loop()
    done = 0
    while True:
        began = loop.time()
        is_told = count is None and (paint is not None or done == 0)
        call.print(f"[{datetime.now():%H:%M:%S}]" + " (Ctrl-C ends it)" * is_told)
        try:
            await _run_inner(call)
        except LineError:
            if paint is not None:
                paint()
            raise
        if paint is not None:
            paint()
        done += 1
        if done == count or call.monitor.quitting:
            return
        await asyncio.sleep(max(0.0, began + interval - loop.time()))


def _count(call: Call) -> int | None:
    """Return how often to run the line, None for endlessly. Raises LineError."""
    text = call.text("count")
    if not text:
        if not call.person.interactive:
            raise LineError(
                "watch: give a number of runs, as in 'watch -n 3 ...': Ctrl-C works only on a terminal"
            )
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise LineError(f"watch: expected a number of runs, at least 1, found '{text}'")
    return int(text)


@handler("hmp_qmp")
async def qmp(call: Call) -> None:
    name = call.text("name")
    arguments = _read_arguments(call.text("arguments")) if "arguments" in call.values else {}
    result = await call.execute_raw(name, arguments)
    if name == "quit":
        call.monitor.quitting = True
    result = {} if result is None else result
    call.print(pretty_json(result) if call.person.interactive else json.dumps(result))


def _read_arguments(text: str) -> dict[str, Any]:
    """Read a JSON object. Raises LineError."""
    try:
        arguments = parse_json(text)
    except UsageError as error:
        raise LineError(f"qmp: {error}") from error
    if not isinstance(arguments, dict):
        raise LineError('qmp: expected a JSON object of arguments, as in {"name": "value"}')
    return arguments


@handler("hmp_transcript")
async def transcript(call: Call) -> None:
    monitor, path = call.monitor, call.text("filename")
    if path == "off":
        if monitor.transcript is None:
            raise LineError("transcript: no transcript is being written")
        monitor.transcript.close()
        monitor.transcript = None
        return
    try:
        descriptor = await asyncio.to_thread(monitor.open_output, path)
    except (OSError, ValueError) as error:
        raise CommandError(f"Could not open '{path}': {reason(error)}") from error
    if monitor.transcript is not None:
        monitor.transcript.close()
    monitor.transcript = Transcript(descriptor, path, monitor.target.subscribe)
