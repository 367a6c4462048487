"""What a benchmark stands on: other projects' programs, and a folder with room for its images."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")


def lacks(programs: Sequence[str], consequence: str) -> bool:
    """Whether a program is missing; if so, the line that names it says the ``consequence``."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        names = ", ".join(absent)
        print(f"{consequence}: {names} not installed (tools/install-peers, as root)", flush=True)
    return bool(absent)


@contextmanager
def folder(mib: int) -> Iterator[Path]:
    """A new folder for so many MiB: in memory, or where there is no room in the folder for temporary files.

    Exits the program with a line where there is no room either.
    """
    places = [place for place in (MEMORY, Path(tempfile.gettempdir())) if place.is_dir()]
    free = {place: shutil.disk_usage(place).free >> 20 for place in places}
    found = next((place for place in places if free[place] >= mib), None)
    if found is None:
        most = " and ".join(f"{free[place]} MiB in {place}" for place in places)
        sys.exit(f"no room for images of {mib} MiB, but for {most}: set TMPDIR, or ask for less (--help)")
    if found != MEMORY:
        print(f"{MEMORY} has no room for images of {mib} MiB: they are in {found}, and so slower", flush=True)
    with tempfile.TemporaryDirectory(dir=found, prefix="qmon-bench-") as name:
        yield Path(name)
