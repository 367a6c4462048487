"""How many trivial lines a second qmon runs: from a pipe, from a file, and pasted on a terminal.

    python -m bench.script

prints, for each way and line, the median of 5 runs: lines a second, start and end of the program not counted.
"""

from __future__ import annotations

import os
import pty
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from bench import results
from bench.results import Column

QMON = [sys.executable, "-m", "qmon"]
LINES = 20_000
PASTED_LINES = 4_000
RUNS = 5
AIM = 2_000
PATIENCE_SECONDS = 60.0
PASTE_BEGIN, PASTE_END = b"\x1b[200~", b"\x1b[201~"


def piped_seconds(line: str, count: int) -> float:
    """Run lines from a pipe to their end, and read all that they print."""
    return run_seconds(QMON, f"{line}\n" * count)


def filed_seconds(line: str, count: int) -> float:
    """The same from a file."""
    with tempfile.NamedTemporaryFile("w", suffix=".hmp") as file:
        file.write(f"{line}\n" * count)
        file.flush()
        return run_seconds([*QMON, "-script", file.name], "")


def run_seconds(command: list[str], given: str) -> float:
    begin = time.perf_counter()
    subprocess.run(command, input=given.encode(), check=True, stdout=subprocess.PIPE)
    return time.perf_counter() - begin


def pasted_rate(line: str, count: int) -> float:
    """Paste lines on a pseudo-terminal; lines a second from the paste to the answer of a line behind them."""
    ours, theirs = pty.openpty()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": home}
        process = subprocess.Popen(QMON, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        try:
            read_until(ours, b"(qemu)")
            begin = time.perf_counter()
            text = f"{line}\n".encode() * count + b"print/d 1234567*8\n"
            write_all(ours, PASTE_BEGIN + text + PASTE_END, b"9876536")
            seconds = time.perf_counter() - begin
        finally:
            process.kill()
            process.wait()
            os.close(ours)
    return count / seconds


def read_until(terminal: int, wanted: bytes) -> None:
    write_all(terminal, b"", wanted)


def write_all(terminal: int, data: bytes, wanted: bytes) -> None:
    """Write while reading what comes back, until ``wanted`` has come. Raises TimeoutError."""
    os.set_blocking(terminal, False)
    deadline = time.monotonic() + PATIENCE_SECONDS
    seen = b""
    while wanted not in seen:
        readable, writable, _ = select.select([terminal], [terminal] if data else [], [], 1)
        if writable:
            data = data[os.write(terminal, data[:4096]) :]
        if readable:
            seen = seen[-len(wanted) :] + os.read(terminal, 1 << 16)
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {wanted!r} within {PATIENCE_SECONDS:.0f} s")


def run_rate(seconds: Callable[[str, int], float]) -> Callable[[str], float]:
    """Lines a second by a way of running them, beyond what a single line takes."""
    return lambda line: (LINES - 1) / (seconds(line, LINES) - seconds(line, 1))


WAYS: dict[str, Callable[[str], float]] = {
    "from a pipe": run_rate(piped_seconds),
    "from a file": run_rate(filed_seconds),
    "pasted": lambda line: pasted_rate(line, PASTED_LINES),
}


def main() -> None:
    rows: list[results.Row] = []
    for way, rate in WAYS.items():
        for line in ("print 1", "info status"):
            rates = sorted(rate(line) for _ in range(RUNS))
            spread = f"{rates[0]:,.0f} to {rates[-1]:,.0f}"
            rows.append((f"{line}, {way}", [statistics.median(rates), rates[0], rates[-1]]))
            print(f"{way:<12} {line:<12} {statistics.median(rates):>8,.0f} lines/s  ({spread}; aim: {AIM:,})")
    columns = [
        Column("lines/s, median", "{:,.0f}", True),
        Column("slowest", "{:,.0f}"),
        Column("fastest", "{:,.0f}"),
    ]
    results.keep("script", f"lines that a monitor runs in a second; {RUNS} runs", columns, rows)


if __name__ == "__main__":
    main()
