"""What it costs a client to stay: fio's rate by way of the source after a migration, beside other ways.

    python -m bench.forward [--seconds N] [--rounds N] [--only WORDS]

The ways are the destination's own export; the source, which forwards the requests; and the nbd plugin of
nbdkit and qemu-nbd as proxies in front of the destination's export. fio connects to the source before the
migration, and what counts is the time after it. All connections are Unix sockets.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench import ground, results
from bench.hanging import READY_SECONDS, program, wait_for
from bench.nbd import Job, answers, load, make_image, measure
from bench.results import Column
from tests.support.qmp_client import QmpClient

SIZE_MIB = 64
SETTLE_SECONDS = 0.5
"""From the migration's end to what counts."""
LONGEST_SECONDS = 60
"""fio ends by itself after so long."""
JOBS = [
    *(Job(1, 4, is_read, depth) for depth in (1, 32) for is_read in (True, False)),
    *(Job(1, 1024, is_read, depth) for depth in (1, 4) for is_read in (True, False)),
    *(Job(8, 4, is_read, 1) for is_read in (True, False)),
]
PROXIES = ("nbdkit", "qemu-nbd")


@contextmanager
def pair(folder: Path) -> Iterator[tuple[QmpClient, Path, Path]]:
    """A source and a destination; yields the source's monitor and the sockets of their exports."""
    source, target, way = (folder / name for name in ("source.qmp", "target.qmp", "way"))
    here, there = folder / "source.nbd", folder / "target.nbd"
    (folder / "there.img").unlink(missing_ok=True)
    with (folder / "there.img").open("wb") as file:
        file.truncate(SIZE_MIB << 20)

    def words(qmp: Path, image: str) -> list[str]:
        drive = f"if=none,id=disk,format=raw,file={folder / image}"
        state = ["-statedir", str(folder / f"state-{time.monotonic_ns()}")]
        monitor = ["-monitor", "none", "-qmp", f"unix:{qmp},server,nowait"]
        return [sys.executable, "-m", "qmon", *state, *monitor, "-drive", drive]

    with (
        program(*words(target, "there.img"), "-incoming", f"unix:{way}"),
        program(*words(source, "here.img")),
    ):
        wait_for(lambda: answers(str(source)) and answers(str(target)), "qmon does not start")
        with QmpClient(source) as near, QmpClient(target) as far:
            for qmp, path in ((near, here), (far, there)):
                qmp.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}})
                qmp.run("nbd-server-add", device="disk", writable=True)
            yield near, here, there
    for path in (source, target, way, here, there):
        path.unlink(missing_ok=True)


def move(near: QmpClient, folder: Path) -> None:
    """Migrate the disk, to the end."""
    near.run("migrate-set-parameters", {"max-bandwidth": 100 << 30})
    near.run("migrate", uri=f"unix:{folder / 'way'}", blk=True)
    wait_for(lambda: near.run("query-migrate")["status"] == "completed", "the disk does not move")


def forwarded(folder: Path, job: Job, seconds: float) -> float:
    """fio's rate by way of the source; in bytes if the job's requests are large."""
    with pair(folder) as (near, here, _), tempfile.TemporaryDirectory(prefix="qmon-bench-") as logs:
        command = ["fio", "--name=job", "--ioengine=nbd", f"--uri=nbd+unix:///disk?socket={here}"]
        command += [*job.options(), f"--size={SIZE_MIB << 20}", "--thread", "--time_based"]
        command += [f"--runtime={LONGEST_SECONDS}", "--randrepeat=1", f"--write_iops_log={logs}/log"]
        command += ["--log_avg_msec=100", "--log_unix_epoch=1"]
        fio = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_for(lambda: clients(near) == job.clients, "fio does not connect")
        move(near, folder)
        time.sleep(SETTLE_SECONDS)
        begun = time.time() * 1000
        time.sleep(seconds)
        ended = time.time() * 1000
        state = near.run("query-migrate").get("x-qmon-forwarded")
        fio.send_signal(signal.SIGINT)  # it writes its logs
        said, _ = fio.communicate(timeout=READY_SECONDS)
        if state is None:
            raise SystemExit(f"the requests were not forwarded: {said}")
        rate = sum(mean_within(log.read_text(), begun, ended) for log in Path(logs).glob("log_iops.*.log"))
    return rate * (job.block << 10 if job.is_large else 1)


def clients(qmp: QmpClient) -> int:
    """How many clients of a qmon read or write: fio also connects for a moment to ask for the size."""
    connections = [each for export in qmp.run("query-block-exports") for each in export["x-qmon-connections"]]
    return sum(each["rd_operations"] + each["wr_operations"] > 0 for each in connections)


def mean_within(log: str, begun: float, ended: float) -> float:
    """The mean of the rates in a log of fio between two times in ms."""
    samples = [tuple(map(int, line.split(",")[:2])) for line in log.splitlines()]
    return statistics.mean(rate for at, rate in samples if begun <= at <= ended)


def proxy(name: str, path: Path, there: Path) -> list[str]:
    """The command line of a proxy at ``path``."""
    if name == "nbdkit":
        return ["nbdkit", "--foreground", "--unix", str(path), "nbd", f"socket={there}", "export=disk"]
    target = f"nbd+unix:///disk?socket={there}"
    return ["qemu-nbd", "--persistent", "--shared=64", "-f", "raw", "-k", str(path), "-x", "disk", target]


def others(folder: Path, job: Job, seconds: float, names: Sequence[str]) -> dict[str, float]:
    """fio's rates at the destination after the migration: on its export, and through proxies."""
    found: dict[str, float] = {}
    with pair(folder) as (near, _, there), ExitStack() as stack:
        move(near, folder)
        found["direct"] = measure(str(there), job, SIZE_MIB << 20, seconds, export="disk").rate
        for name in names:
            path = folder / f"{name}.sock"
            path.unlink(missing_ok=True)
            stack.enter_context(program(*proxy(name, path, there)))
            wait_for(partial(answers, str(path)), f"{name} does not start")
            export = "disk" if name == "qemu-nbd" else ""
            found[name] = measure(str(path), job, SIZE_MIB << 20, seconds, export=export).rate
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="of each fio run")
    parser.add_argument("--rounds", type=int, default=2, help="of which the best counts")
    parser.add_argument("--only", default="", help="jobs whose name has these words: '4 KiB' or 'depth 32'")
    parser.add_argument("--no-proxies", action="store_true", help="only qmon")
    options = parser.parse_args()
    if ground.lacks(["fio"], "nothing measured"):
        return
    asked = () if options.no_proxies else PROXIES
    names = [name for name in asked if not ground.lacks([name], f"without {name}")]
    print(f"load before: {load()}", flush=True)
    ways = ["direct", "forwarded", *names]
    columns = [Column(f"{way} a second", "{:,.0f}") for way in ways]
    columns += [Column(f"{way} of direct", plotted=True) for way in ways[1:]]
    print(f"{'':34}" + "".join(f"{way:>12}" for way in ways) + "".join(f"{way:>10}" for way in ways[1:]))
    rows: list[tuple[str, list[float]]] = []
    with ground.folder(3 * SIZE_MIB) as folder:
        make_image(folder / "here.img", SIZE_MIB, "raw")
        for job in [each for each in JOBS if options.only in str(each)]:
            best = dict.fromkeys(ways, 0.0)
            for _ in range(options.rounds):
                found = others(folder, job, options.seconds, names)
                found["forwarded"] = forwarded(folder, job, options.seconds)
                best = {way: max(best[way], found[way]) for way in ways}
            unit = 1e6 if job.is_large else 1
            ratios = [best[way] / best["direct"] for way in ways[1:]]
            cells = "".join(f"{best[way] / unit:12,.0f}" for way in ways)
            print(f"{job!s:34}{cells}" + "".join(f"{ratio:10.2f}" for ratio in ratios), flush=True)
            rows.append((str(job), [*(best[way] / unit for way in ways), *ratios]))
    print(f"load after: {load()}")
    results.keep("forward", "fio's nbd engine on a disk that has moved", columns, rows)


if __name__ == "__main__":
    main()
