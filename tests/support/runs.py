"""Runs a qmon to its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import CHECKOUT, QMON
from tests.support.waiting import PATIENCE

Done = subprocess.CompletedProcess[str]


def run(*options: str, stdin: str | None = "", cwd: Path = CHECKOUT, packages: Sequence[Path] = ()) -> Done:
    """Run qmon to its end with a text on its standard input, or, for None, nothing to read there.

    ``packages``: folders with more of Python's packages.
    """
    return subprocess.run(
        [*QMON, *options],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,  # it starts, works and ends
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (CHECKOUT, *packages)))},
    )


def run_in(folder: Path, *options: str, stdin: str | None = None) -> Done:
    """The same in a folder, with its records there."""
    return run("-statedir", str(folder / "state"), *options, stdin=stdin, cwd=folder)


def one_line(done: Done) -> str:
    """The one line on stderr of a qmon that could not start."""
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("qmon: ")
    return line.removeprefix("qmon: ")
