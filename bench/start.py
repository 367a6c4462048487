"""How long qmon takes to start: its version, and its first prompt on a terminal.

    python -m bench.start

builds the wheel, installs it in an environment of its own and prints medians of 15 runs each.
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
import venv
from pathlib import Path

from bench import results
from bench.results import Column

CHECKOUT = Path(__file__).resolve().parent.parent
RUNS = 15
PATIENCE_SECONDS = 20.0
PROMPT = b"(qemu)"


def install(folder: Path) -> Path:
    """Build the wheel and install it in ``folder``; return the path of its ``qmon``."""
    # by way of the source archive: a wheel straight from the checkout would take in what an older build left
    build = [sys.executable, "-m", "build", "--outdir", str(folder), str(CHECKOUT)]
    done = subprocess.run(build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"the wheel could not be built:\n{done.stdout}")
    venv.create(folder / "environment", with_pip=False)
    programs = folder / "environment" / "bin"
    wheels = map(str, folder.glob("*.whl"))
    # the checks' own pip: the environment would have one only where Python has ensurepip
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python")]
    subprocess.run([*pip, "install", "-qq", *wheels], check=True)
    return programs / "qmon"


def version_ms(qmon: Path, environment: dict[str, str]) -> float:
    """Run ``qmon -version`` to its end."""
    begin = time.perf_counter()
    subprocess.run([qmon, "-version"], check=True, stdout=subprocess.DEVNULL, env=environment)
    return (time.perf_counter() - begin) * 1000


def prompt_ms(qmon: Path, environment: dict[str, str]) -> float:
    """Start qmon on a pseudo-terminal, wait until the prompt is on it, and quit."""
    ours, theirs = pty.openpty()
    begin = time.perf_counter()
    process = subprocess.Popen([qmon], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        seen = b""
        while PROMPT not in seen:
            left = begin + PATIENCE_SECONDS - time.perf_counter()
            if not select.select([ours], [], [], max(0, left))[0]:
                raise TimeoutError(f"no prompt within {PATIENCE_SECONDS:.0f} s, but {seen!r}")
            seen += os.read(ours, 65536)
        taken = (time.perf_counter() - begin) * 1000
        os.write(ours, b"quit\r")
        drain(ours)
        process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return taken


def drain(terminal: int) -> None:
    """Read until the program has closed its side."""
    while select.select([terminal], [], [], PATIENCE_SECONDS)[0]:
        try:
            if not os.read(terminal, 65536):
                return
        except OSError:  # EIO: how Linux tells that the other side is closed
            return


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        qmon = install(folder)
        environment = {**os.environ, "HOME": name, "TERM": "xterm-256color"}
        unwanted = (
            "PYTHONPATH",
            "PYTHONDONTWRITEBYTECODE",
            "XDG_STATE_HOME",
            "XDG_DATA_HOME",
            "XDG_CONFIG_HOME",
        )
        for variable in unwanted:
            environment.pop(variable, None)
        rows: list[results.Row] = []
        for what, measure, aim in (("-version", version_ms, 100), ("first prompt", prompt_ms, 300)):
            measure(qmon, environment)  # the first run reads the files from the disk
            times = sorted(measure(qmon, environment) for _ in range(RUNS))
            median = statistics.median(times)
            rows.append((f"qmon, {what}", [median, times[0], times[-1]]))
            print(f"{what:<14} median {median:5.0f} ms  ({times[0]:.0f} to {times[-1]:.0f}; aim: {aim} ms)")
    columns = [
        Column("median, ms", "{:.0f}", True),
        Column("fastest, ms", "{:.0f}"),
        Column("slowest, ms", "{:.0f}"),
    ]
    results.keep("start", f"an installed qmon; {RUNS} starts each", columns, rows)


if __name__ == "__main__":
    main()
