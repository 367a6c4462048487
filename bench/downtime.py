"""What a guest notices of a migration: fio writes by NBD while the disk moves, qmon's way and QEMU's.

    python -m bench.downtime [--size-mib 1024] [--runs 3] [--seconds 15] [qmon] [QEMU]

fio's nbd engine writes 4 KiB at random, 16 at a time, over a Unix socket: at 10 MB/s, and as fast as it can.
The disk moves by TCP on loopback, with downtime-limit 50 ms, or 10 where that is said, and max-bandwidth out
of the way. Beside it QEMU 10 mirrors the same disk (blockdev-mirror to an NBD export, completed as soon as it
is ready), which is what it has for this. All on one machine in memory: what else runs there is seen in every
figure.

The longest wait is told twice. "longest write" is the longest time that a write took which fio got
acknowledged, during the migration and in the seconds before it. "across" is what a second guest saw, one
write at a time, which follows its disk: from asking at the one side to the acknowledgement at the other, the
refusal and the new connection included. QEMU's mirror leaves its guests where they are, so they see no more
there than its switch from one node to the other. "downtime" is what qmon reports.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import ground, results
from bench.results import Column
from tests.support.guest import Guest
from tests.support.hmp_client import HmpClient
from tests.support.ports import free_port
from tests.support.qmp_client import QmpClient

QMON = [sys.executable, "-m", "qmon"]
QEMU = ["/opt/qemu10/run", "qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-S"]
RATE = 10_000_000
DEPTH = 16
BLOCK = 4096
DOWNTIME_LIMIT_MS = 50
BEFORE_SECONDS = 2.0
POLL_SECONDS = 0.01
PATIENCE = 20.0
LOGS_MIB = 64
"""Room for what fio writes down of one move."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen of one migration; times in ms, rates in MB/s, None for what there is none of."""

    seconds: float | None
    before: float
    during: float
    longest_before: float
    longest_during: float
    across: float | None
    downtime: float | None


class Fio:
    """fio, writing to an export until it is stopped or turned away; then its log of every write."""

    def __init__(self, folder: Path, export: str, size: int, rate: int | None) -> None:
        self._prefix = folder / "fio"
        for old in folder.glob("fio_*.log"):
            old.unlink()
        command = [
            "fio",
            "--name=job",
            "--ioengine=nbd",
            f"--uri={export}",
            "--rw=randwrite",
            f"--bs={BLOCK}",
            f"--iodepth={DEPTH}",
            f"--size={size}",
            "--time_based",
            "--runtime=600",
            f"--write_lat_log={self._prefix}",
            "--log_unix_epoch=1",
            "--output=/dev/null",
            *([f"--rate={rate}"] if rate else []),
        ]
        self._process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self) -> list[tuple[float, float]]:
        """End it; return (when it was acknowledged in Unix time, how long it took in s) of each write."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE)
        writes = []
        with Path(f"{self._prefix}_lat.1.log").open() as log:
            for line in log:
                when, took, *_ = line.split(",")
                writes.append((int(when) / 1e3, int(took) / 1e9))
        return writes


class Follower:
    """A guest with one write at a time, 200 a second, that goes on where its disk goes."""

    def __init__(self, exports: list[tuple[Path, str]], size: int) -> None:
        self._exports = list(exports)
        self._size = size
        self.waits: list[tuple[float, float]] = []
        """When a write began, in Unix time, and how long it took in s."""
        self.moves = 0
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001 - told in the main thread, whatever it is
            self.error = error

    def _write(self) -> None:
        chance = random.Random(1)
        guest = Guest(*self._exports.pop(0))
        while not self._stop.wait(0.005):
            offset = chance.randrange(self._size // BLOCK) * BLOCK
            data = chance.randbytes(BLOCK)
            began, begun = time.time(), time.perf_counter()
            try:
                guest.write(offset, data)
            except OSError:
                if not self._exports:
                    raise
                guest = Guest(*self._exports.pop(0))
                self.moves += 1
                guest.write(offset, data)
            self.waits.append((began, time.perf_counter() - begun))

    def stop(self) -> None:
        """Raises what it died of."""
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error


@dataclass(frozen=True, slots=True)
class Disk:
    """The images of one move, and where things are."""

    folder: Path
    size: int
    port: int

    def image(self, side: str) -> Path:
        return self.folder / f"{side}.img"

    def nbd(self, side: str) -> Path:
        return self.folder / f"{side}.nbd"

    def prepare(self) -> None:
        """A source full of data and an empty target."""
        source = self.image("source")
        if not source.exists():
            with source.open("wb") as file:
                for _ in range(self.size >> 20):
                    file.write(os.urandom(1 << 20))
        target = self.image("target")
        target.unlink(missing_ok=True)
        with target.open("wb") as file:
            file.truncate(self.size)
        for path in (*self.folder.glob("*.nbd"), *self.folder.glob("*.sock"), *self.folder.glob("*.qmp")):
            path.unlink()


def started(stack: ExitStack, command: list[str]) -> None:
    """Start a process that ends with ``stack``."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stack.callback(ended, process)


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a process, unless it has been told to and does by itself."""
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(PATIENCE)


def qmon_move(disk: Disk, rate: int | None, seconds: float, settings: Sequence[str] = ()) -> Outcome:
    """One move by qmon with these lines of settings, given up after ``seconds``."""
    with ExitStack() as stack:
        uri = f"tcp:127.0.0.1:{disk.port}"
        monitors = {}
        for side, more in (("target", ["-incoming", uri]), ("source", [])):
            path = disk.folder / f"{side}.sock"
            option = f"file={disk.image(side)},id=d0,format=raw,if=none"
            # a new one for each move: by the old one's records the disk has moved
            state = ["-statedir", tempfile.mkdtemp(dir=disk.folder)]
            monitor = ["-monitor", f"unix:{path},server,nowait"]
            started(stack, [*QMON, "-drive", option, *monitor, *state, *more])
            monitors[side] = stack.enter_context(HmpClient(path))
            monitors[side].command(f"nbd_server_start unix:{disk.nbd(side)}")
            monitors[side].command("nbd_server_add -w d0")
        source = monitors["source"]
        source.command("migrate_set_parameter max-bandwidth 100G")
        for line in (f"migrate_set_parameter downtime-limit {DOWNTIME_LIMIT_MS}", *settings):
            source.command(line)
        fio = Fio(disk.folder, f"nbd+unix:///d0?socket={disk.nbd('source')}", disk.size, rate)
        follower = Follower([(disk.nbd(side), "d0") for side in ("source", "target")], disk.size)
        time.sleep(BEFORE_SECONDS)
        begun, clock = time.time(), time.monotonic()
        source.command(f"migrate -d blk {uri}")
        took: float | None = None
        downtime: float | None = None
        while time.monotonic() - clock < seconds:
            figures = dict(
                line.split(": ", 1) for line in source.command("info migrate").splitlines() if ": " in line
            )
            status = figures["Migration status"]
            if status == "completed":
                took = time.monotonic() - clock
                downtime = float(figures["downtime"].removesuffix(" ms"))
                break
            if status.startswith("failed"):
                raise RuntimeError(status)
            time.sleep(POLL_SECONDS)
        ended = time.time()
        if took is None:
            source.command("migrate_cancel")
        time.sleep(0.3)  # for the follower to go on
        follower.stop()
        return outcome(fio.stop(), follower, begun, ended, took, downtime)


def qemu_move(disk: Disk, rate: int | None, seconds: float, copy_mode: str = "background") -> Outcome:
    """The same disk by QEMU's mirror, given up after ``seconds``."""
    with ExitStack() as stack:
        sides: dict[str, QmpClient] = {}
        for side in ("target", "source"):
            path = disk.folder / f"{side}.qmp"
            node = f"driver=file,node-name=d0,filename={disk.image(side)}"
            started(stack, [*QEMU, "-blockdev", node, "-qmp", f"unix:{path},server=on,wait=off"])
            sides[side] = QmpClient(path)
            stack.callback(quit_qemu, sides[side])
        source, target = sides["source"], sides["target"]
        place = {"host": "127.0.0.1", "port": str(disk.port)}
        target.run("nbd-server-start", addr={"type": "inet", "data": place})
        target.run("block-export-add", type="nbd", id="e", node_name="d0", writable=True)
        source.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(disk.nbd("source"))}})
        source.run("block-export-add", type="nbd", id="e", node_name="d0", writable=True)
        source.run(
            "blockdev-add", driver="nbd", node_name="there", export="d0", server={"type": "inet", **place}
        )
        fio = Fio(disk.folder, f"nbd+unix:///d0?socket={disk.nbd('source')}", disk.size, rate)
        follower = Follower([(disk.nbd("source"), "d0")], disk.size)
        time.sleep(BEFORE_SECONDS)
        begun, clock = time.time(), time.monotonic()
        source.run(
            "blockdev-mirror", job_id="j", device="d0", target="there", sync="full", copy_mode=copy_mode
        )
        took: float | None = None
        ready = 0.0
        while time.monotonic() - clock < seconds:
            if saw(source, "BLOCK_JOB_ERROR"):
                raise RuntimeError("the mirror failed")
            if not ready and saw(source, "BLOCK_JOB_READY"):
                ready = time.monotonic()
                source.run("block-job-complete", device="j")
            if saw(source, "BLOCK_JOB_COMPLETED"):
                took = time.monotonic() - clock
                break
            time.sleep(POLL_SECONDS)
        ended = time.time()
        time.sleep(0.3)
        follower.stop()
        writes = fio.stop()
        if took is None:
            # It may be gone: without fio the mirror is soon ready, and one that was completed ends by itself.
            source.ask("block-job-cancel", device="j", force=True)
        return outcome(writes, follower, begun, ended, took, None)


def quit_qemu(client: QmpClient) -> None:
    client.run("quit")
    client.close()


def saw(client: QmpClient, event: str) -> bool:
    """Whether an event has come."""
    client.run("query-status")  # whose answer comes behind the events
    return event in client.event_names


def outcome(
    writes: list[tuple[float, float]],
    follower: Follower,
    begun: float,
    ended: float,
    took: float | None,
    downtime: float | None,
) -> Outcome:
    """Put the logs together; ``begun`` and ``ended`` are the migration's, in Unix time."""
    first = writes[0][0]
    # fio writes down when a write was acknowledged, so one that began before the end may be behind it
    before = [took for when, took in writes if first + 0.5 <= when < begun]
    during = [took for when, took in writes if begun <= when and when - took <= ended]
    last = min(ended, max(when for when, _ in writes))
    across = [wait for began, wait in follower.waits if began <= ended and began + wait >= begun]
    return Outcome(
        took,
        len(before) * BLOCK / 1e6 / (begun - first - 0.5),
        len(during) * BLOCK / 1e6 / (last - begun),
        max(before) * 1e3,
        max(during) * 1e3,
        max(across) * 1e3 if took is not None else None,
        downtime,
    )


def show(name: str, seen: Outcome, seconds: float) -> str:
    """One row."""
    moved = f"{seen.seconds:7.2f} s" if seen.seconds is not None else f"not in {seconds:.0f} s"
    across = f"{seen.across:9.1f}" if seen.across is not None else f"{'-':>9}"
    downtime = f"{seen.downtime:9.0f}" if seen.downtime is not None else f"{'-':>9}"
    return (
        f"{name:38}{moved:>11}{seen.before:10.1f}{seen.during:10.1f}{seen.during / seen.before:7.2f}"
        f"{seen.longest_before:10.1f}{seen.longest_during:10.1f}{across}{downtime}"
    )


MOVES: dict[str, Callable[[Disk, int | None, float], Outcome]] = {
    "qmon": qmon_move,
    "qmon, downtime-limit 10": partial(qmon_move, settings=["migrate_set_parameter downtime-limit 10"]),
    "qmon, auto-converge": partial(qmon_move, settings=["migrate_set_capability auto-converge on"]),
    "qmon, write-blocking": partial(
        qmon_move, settings=["migrate_set_parameter x-qmon-copy-mode write-blocking"]
    ),
    "QEMU": qemu_move,
    "QEMU, write-blocking": partial(qemu_move, copy_mode="write-blocking"),
}

HEADER = (
    f"{'':38}{'':>11}{'guest, MB/s':>20}{'kept':>7}{'longest write, ms':>20}{'across':>9}{'downtime':>9}\n"
    f"{'':38}{'moved in':>11}"
    f"{'before':>10}{'during':>10}{'':>7}"
    f"{'before':>10}{'during':>10}{'ms':>9}{'ms':>9}"
)


def middle(seen: list[Outcome]) -> Outcome:
    """The median of each figure; of times to move and waits across only where all have one."""

    def of(name: str) -> float | None:
        values = [getattr(each, name) for each in seen]
        return None if None in values else statistics.median(values)

    return Outcome(**{name: of(name) for name in Outcome.__slots__})  # type: ignore[arg-type]  # by name


def keep(size_mib: int, runs: int, medians: dict[str, Outcome]) -> None:
    """For the manual: the moves that came to an end."""
    rows = [
        (
            label.replace("QEMU", "QEMU 10").replace(", ", ", guest at "),
            [each.seconds, each.during / each.before, each.longest_during, each.across, each.downtime],
        )
        for label, each in medians.items()
        if each.seconds is not None
    ]
    columns = [
        Column("moved in, s", "{:.1f}", True),
        Column("rate kept"),
        Column("longest write, ms", "{:.0f}", True),
        Column("across the handover, ms", "{:.0f}", True),
        Column("downtime as reported, ms", "{:.0f}"),
    ]
    what = f"a move of {size_mib} MiB under a guest's writes of 4 KiB, depth {DEPTH}; medians of {runs} runs"
    results.keep("downtime", what, columns, rows)


def main() -> int:
    """Run it; print each run, and the medians in a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=30, help="after which a move that does not end is given up"
    )
    parser.add_argument("ways", nargs="*", help=f"{', '.join(MOVES)} (all)")
    options = parser.parse_args()
    if ground.lacks(["fio"], "nothing measured"):
        return 0
    ways = options.ways or [*MOVES]
    if any(way.startswith("QEMU") for way in ways) and ground.lacks(QEMU[:1], "without QEMU"):
        ways = [way for way in ways if not way.startswith("QEMU")]
    seen: dict[str, list[Outcome]] = {}
    print(HEADER)
    with ground.folder(2 * options.size_mib + LOGS_MIB) as folder:
        for number in range(options.runs):
            for speed, rate in (("10 MB/s", RATE), ("full speed", None)):
                for way in ways:
                    disk = Disk(folder, options.size_mib << 20, free_port())
                    disk.prepare()
                    label = f"{way}, {speed}"
                    one = MOVES[way](disk, rate, options.seconds)
                    seen.setdefault(label, []).append(one)
                    print(show(f"run {number + 1}: {label}", one, options.seconds), flush=True)
    print(f"\nmedians of {options.runs}")
    print(HEADER)
    for label, outcomes in seen.items():
        print(show(label, middle(outcomes), options.seconds))
    keep(options.size_mib, options.runs, {label: middle(outcomes) for label, outcomes in seen.items()})
    ours = seen.get("qmon, 10 MB/s", [])
    for what, values in (
        ("longest write", [each.longest_during for each in ours]),
        ("longest wait across the handover", [each.across for each in ours if each.across is not None]),
    ):
        if values:
            print(f"qmon at 10 MB/s: {what} of all runs {max(values):.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
