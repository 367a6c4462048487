"""The manual's picture of a report: a real migration with a writing guest, and the page in a browser.

python -m bench.report docs/figures/report.png
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.support.browser import picture
from tests.support.guest import Guest
from tests.support.images import MIB, blank, drive, filled
from tests.support.peers import exit_without
from tests.support.processes import Lab

SIZE = 192 * MIB
HOT = 48 * MIB
"""The part of the disk that the guest writes."""


def main() -> None:
    exit_without("chromium")
    image = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        page = lab.folder / "report.html"
        _migrate(lab, page)
        taken = lab.folder / "report.png"
        picture(page, taken, size="1000,1180")
        image.write_bytes(taken.read_bytes())


def _migrate(lab: Lab, page: Path) -> None:
    here, there = filled(lab.folder / "a", SIZE), blank(lab.folder / "b", SIZE)
    source, _, uri = lab.pair(drive(here), drive(there), bandwidth="48M")
    source.export("d0")
    guest, stop = source.guest(), threading.Event()
    writer = threading.Thread(target=_write, args=(guest, stop))
    writer.start()
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("completed")
    stop.set()
    writer.join()
    source.quietly(f"migrate_report {page}")


def _write(guest: Guest, stop: threading.Event) -> None:
    """Write bursts until the disk has moved."""
    chance = random.Random(1)
    try:
        while not stop.is_set():
            for _ in range(chance.randrange(10, 60)):
                guest.write(chance.randrange(HOT // MIB) * MIB, bytes(64 << 10))
                time.sleep(0.004)
            time.sleep(chance.random() * 0.3)
    except OSError:
        return  # the disk has moved


if __name__ == "__main__":
    main()
