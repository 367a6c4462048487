"""What a migration that copies costs clients: fio's rate on a disk of a qmon, without the copy and with it.

    python -m bench.beside [--seconds N] [--rounds N] [--limit BYTES]

The migration copies another drive of the same qmon, and fio's as well, over loopback to a second qmon. It is
limited, so that it lasts as long as fio. nbdkit takes turns with both.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import ground, results
from bench.hanging import program, wait_for
from bench.nbd import Job, answers, load, make_image, measure, running
from bench.results import Column
from tests.support.qmp_client import QmpClient

SIZE_MIB = 128
JOBS = [
    Job(clients=1, block=4, is_read=True, depth=32),
    Job(clients=1, block=4, is_read=False, depth=32),
    Job(clients=8, block=4, is_read=True, depth=1),
    Job(clients=8, block=4, is_read=False, depth=1),
    Job(clients=1, block=1024, is_read=True, depth=4),
]
UNDER_WAY = ("setup", "active")


@contextmanager
def served(folder: Path, rate: int, mib: int) -> Iterator[tuple[str, QmpClient]]:
    """A qmon with ``disk`` and ``large``; with a ``rate`` it migrates them at so many bytes a second."""
    disks = {"disk": folder / "disk.img", "large": folder / "large.img"}
    source, target, nbd, way = (folder / name for name in ("source.qmp", "target.qmp", "qmon.nbd", "way"))

    def options(prefix: str) -> list[str]:
        return [
            word
            for name, path in disks.items()
            for word in ("-drive", f"if=none,id={name},format=raw,file={path.with_name(prefix + path.name)}")
        ]

    for name, size in (("disk", SIZE_MIB), ("large", mib)):
        with (folder / f"to-{name}.img").open("wb") as file:
            file.truncate(size << 20)

    def words(qmp: Path) -> tuple[str, ...]:
        return (sys.executable, "-m", "qmon", "-monitor", "none", "-qmp", f"unix:{qmp},server,nowait")

    with (
        program(*words(target), *options("to-"), "-incoming", f"unix:{way}"),
        program(*words(source), *options("")),
    ):
        wait_for(lambda: answers(str(source)) and answers(str(target)), "qmon does not start")
        with QmpClient(source) as qmp:
            qmp.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(nbd)}})
            qmp.run("nbd-server-add", device="disk", writable=True)
            if rate:
                qmp.run("migrate-set-parameters", {"max-bandwidth": rate})
                qmp.run("migrate", uri=f"unix:{way}", blk=True)
            yield str(nbd), qmp
    for path in (source, target, nbd, way):
        path.unlink(missing_ok=True)


def beside(folder: Path, job: Job, seconds: float, rate: int, mib: int) -> tuple[float, float]:
    """fio's rate, and the bytes a second that the migration sends meanwhile."""
    with served(folder, rate, mib) as (path, qmp):
        begun, sent = time.monotonic(), 0
        found = measure(path, job, SIZE_MIB << 20, seconds, export="disk").rate
        if rate:
            state = qmp.run("query-migrate")
            if state["status"] not in UNDER_WAY:
                raise SystemExit(
                    f"the migration is {state['status']}: use a lower --limit or fewer --seconds"
                )
            sent = (state.get("disk") or state["ram"])["transferred"]
        return found, sent / (time.monotonic() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="of each fio run")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    parser.add_argument("--limit", type=int, default=400_000_000, help="of the migration, in bytes a second")
    options = parser.parse_args()
    if ground.lacks(["fio", "nbdkit"], "nothing measured"):
        return
    print(f"load before: {load()}", flush=True)
    columns = [
        Column("nbdkit a second", "{:,.0f}"),
        Column("qmon", "{:,.0f}"),
        Column("qmon beside a copy", "{:,.0f}"),
        Column("copied MB a second", "{:,.0f}"),
        Column("of qmon's alone", plotted=True),
        Column("of nbdkit's", plotted=True),
    ]
    mib = int(options.limit * (options.seconds + 4) * 2) >> 20
    rows: list[tuple[str, list[float]]] = []
    with ground.folder(2 * mib + 3 * SIZE_MIB) as folder:
        make_image(folder / "disk.img", SIZE_MIB, "raw")
        make_image(folder / "large.img", mib, "raw")
        for job in JOBS:
            kit, alone, copying = [], [], []
            for _ in range(options.rounds):
                with running("nbdkit", folder, str(folder / "disk.img"), "raw") as path:
                    kit.append(measure(path, job, SIZE_MIB << 20, options.seconds).rate)
                alone.append(beside(folder, job, options.seconds, 0, mib)[0])
                copying.append(beside(folder, job, options.seconds, options.limit, mib))
            unit = 1e6 if job.is_large else 1
            rate, copied = max(copying)
            figures = [each / unit for each in (max(kit), max(alone), rate)]
            ratios = [rate / max(alone), rate / max(kit)]
            cells = "".join(f"{each:12,.0f}" for each in [*figures, copied / 1e6])
            print(f"{job!s:34}{cells}{ratios[0]:8.2f}{ratios[1]:8.2f}", flush=True)
            rows.append((str(job), [*figures, copied / 1e6, *ratios]))
    print(f"load after: {load()}")
    results.keep("beside", "fio's nbd engine on a disk of a qmon that migrates", columns, rows)


if __name__ == "__main__":
    main()
