"""Migrations without ``blk`` between two hosts, by the hundred: another disk is refused, the same one taken.

    python -m tests.torture.shared [--kind other|same] [--seed S] [--runs N]

Needs root, for two network namespaces as hosts and loop devices as a SAN's disks.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.guests import SECTOR, Writer
from tests.support.hosts import Host, NoHostsError, loop_device, two_hosts
from tests.support.images import MIB, blank, drive, noise
from tests.support.processes import Lab, Qmon
from tests.support.qcow2_images import run
from tests.support.waiting import connect_when_there

RUNS = {"other": 100, "same": 100}
PORT = 4444
START_SECONDS = 120
"""On a machine that does much else."""

SMALL, LARGE = 8 * MIB, 160 * MIB
"""A disk that is compared as a whole, and one that is not."""

WHY = re.compile(
    r"drive 'd0' is not the same disk on both sides: it differs in the (\d+) bytes at (\d+);"
    r" migrate blk copies it"
)


@dataclass(frozen=True, slots=True)
class Case:
    """One run, as its seed has drawn it."""

    kind: str
    seed: int
    size: int
    format: str
    """``raw``, or ``qcow2`` over a raw image."""
    storage: str
    """``file`` is one for both hosts, ``lun`` is a loop device on it for each."""
    own_kernels: bool
    when: str
    """``before`` the migration a guest writes one sector, or many ``meanwhile``."""

    def __str__(self) -> str:
        kernels = "two kernels" if self.own_kernels else "one kernel"
        disk = f"{self.format}, {self.size // MIB} MiB, {self.storage}"
        return f"{self.kind} {self.seed}: {disk}, {kernels}, {self.when}"


@dataclass(frozen=True, slots=True)
class Result:
    case: Case
    outcome: str
    acknowledged: int
    downtime_ms: int | None
    problem: str = ""


def draw(kind: str, seed: int) -> Case:
    """The case of a seed."""
    chance = random.Random(f"{kind} {seed}")
    size, image = chance.choice([SMALL, LARGE]), chance.choice(["raw", "raw", "qcow2"])
    storage = chance.choice(["file", "lun"]) if kind == "same" else "copies"
    own_kernels = chance.random() < 0.8
    when = "meanwhile" if kind == "same" else chance.choice(["before", "meanwhile"])
    return Case(kind, seed, size, image, storage, own_kernels, when)


def make_disk(case: Case, folder: Path, chance: random.Random) -> tuple[Path, bytes]:
    """An image with some data, and what it holds."""
    raw = blank(folder / "raw.img", case.size)
    with raw.open("r+b") as file:
        for _ in range(8):
            file.seek(chance.randrange(case.size - MIB) // SECTOR * SECTOR)
            file.write(chance.randbytes(MIB // 2))
    content = raw.read_bytes()
    if case.format == "raw":
        return raw, content
    base, image = folder / "base.img", folder / "disk.qcow2"
    with blank(base, case.size).open("r+b") as file:
        file.write(content[: case.size // 2])
    run("convert", "-f", "raw", "-O", "qcow2", "-B", base, "-F", "raw", raw, image)
    raw.unlink()
    return image, content


@contextlib.contextmanager
def views(case: Case, image: Path) -> Iterator[tuple[Path, Path]]:
    """The disk as each host names it."""
    with contextlib.ExitStack() as stack:
        match case.storage:
            case "copies":
                other = image.with_name("other" + image.suffix)
                shutil.copy(image, other)
                yield image, other
            case "lun":
                if case.format == "qcow2":  # room to grow
                    with image.open("r+b") as file:
                        file.truncate(2 * case.size)
                yield stack.enter_context(loop_device(image)), stack.enter_context(loop_device(image))
            case _:
                yield image, image


def started(
    lab: Lab, folder: Path, hosts: tuple[Host, Host], names: tuple[Path, Path], image: str
) -> tuple[Qmon, Qmon, str]:
    """Source and destination on the two hosts, exported, and the URI from one to the other."""
    options = [drive(name, format=image) for name in names]
    target = lab.launch("target", *options[1], "-incoming", f"tcp:0:{PORT}", within=hosts[1].within)
    source = lab.launch("source", *options[0], within=hosts[0].within)
    for each in (source, target):
        connect_when_there(folder / f"{each.name}.sock", START_SECONDS).close()
        each.export("d0")
    return source, target, f"tcp:{hosts[1].address}:{PORT}"


def try_out(case: Case, folder: Path) -> Result:
    """Do a run, and say what is wrong with how it went."""
    chance = random.Random(f"run {case.kind} {case.seed}")
    folder.mkdir()
    image, content = make_disk(case, folder, chance)
    with (
        views(case, image) as names,
        two_hosts(folder, own_kernels=case.own_kernels) as hosts,
        Lab(folder) as lab,
    ):
        source, target, uri = started(lab, folder, hosts, names, case.format)
        ready = threading.Event()
        ready.set()
        writer = Writer([source.nbd, target.nbd], "d0", content, ready, case.seed, pause=0.0005)
        place = chance.randrange(case.size // SECTOR) * SECTOR
        if case.when == "before":
            with source.guest() as guest:
                guest.write(place, chance.randbytes(SECTOR))
        else:
            writer.start()
            time.sleep(chance.uniform(0, 0.1))
        try:
            source.quietly(f"migrate -d {uri}")
            status = source.wait_migration("completed", "failed")
            if case.kind == "other":
                problem = other_problem(case, source, target, status, place)
            else:
                problem = same_problem(source, target, status)
                time.sleep(0.1)
        finally:
            writer.stop()
            if case.when != "before":
                writer.join(30)
        downtime = source.figures().get("downtime")
    if case.kind == "same" and not problem:
        problem = "; ".join([*writer.errors, *writer.ledger.wrong(held(case, image))][:3])
    if not problem:
        shutil.rmtree(folder)
    outcome = status.split(" (")[0]
    if case.kind == "other":
        outcome += " while guests stood still" if downtime else " while guests wrote"
    milliseconds = None if downtime is None else int(downtime.split()[0])
    return Result(case, outcome, writer.acknowledged, milliseconds, problem)


def other_problem(case: Case, source: Qmon, target: Qmon, status: str, place: int) -> str:
    """What is wrong with a refusal."""
    why = WHY.search(status)
    if not status.startswith("failed") or why is None:
        return f"the source says: {status}"
    if case.when == "before" and why.groups() != (str(SECTOR), str(place)):
        return f"the sector at {place} differs, and it says: {why[0]}"
    target.wait_log(why[0])
    if (source.status(), target.status()) != ("running", "paused (inmigrate)"):
        return f"the source is {source.status()}, the destination {target.status()}"
    with source.guest() as guest:
        guest.write(place, noise(SECTOR))
        if guest.read(place, SECTOR) != noise(SECTOR):
            return "the source does not serve its guests as before"
    return ""


def same_problem(source: Qmon, target: Qmon, status: str) -> str:
    if status != "completed":
        return f"the source says: {status}"
    target.wait_status("running")
    return "" if source.status() == "paused (postmigrate)" else f"the source is {source.status()}"


def held(case: Case, image: Path) -> bytes:
    """What the disk holds in the end."""
    if case.format == "raw":
        return image.read_bytes()
    raw = image.with_suffix(".raw")
    run("convert", "-f", "qcow2", "-O", "raw", image, raw)
    return raw.read_bytes()


def campaign(kind: str, seed: int, runs: int, folder: Path) -> Iterator[Result]:
    """Yield the results one by one."""
    for number in range(seed, seed + runs):
        case = draw(kind, number)
        try:
            yield try_out(case, folder / f"{kind}-{number}")
        except Exception:  # noqa: BLE001 - a fault of the harness is a failed run, and the others go on
            yield Result(case, "harness", 0, None, traceback.format_exc())


def summary(kind: str, results: list[Result]) -> str:
    """The figures."""
    outcomes = collections.Counter(each.outcome for each in results)
    broken = sum(1 for each in results if each.problem)
    downtimes = sorted(each.downtime_ms for each in results if each.downtime_ms is not None)
    shown = f"; downtime {downtimes[len(downtimes) // 2]} ms, at most {downtimes[-1]} ms" if downtimes else ""
    return (
        f"{kind}: {len(results)} runs, {broken} went wrong; "
        + ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
        + f"; {sum(each.acknowledged for each in results)} writes acknowledged{shown}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=RUNS, help="both kinds, one after the other, without it")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--runs", type=int)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000_000) if options.seed is None else options.seed
    try:
        with two_hosts(Path("/tmp"), own_kernels=False):
            pass
    except NoHostsError as error:
        print(f"two hosts on one machine are not to be had, nothing was tried: {error}")
        return 0
    wrong = False
    for kind in [options.kind] if options.kind else RUNS:
        runs = options.runs or RUNS[kind]
        print(f"{kind}: seed {seed}, {runs} runs", flush=True)
        folder = Path(tempfile.mkdtemp(prefix="qmon-shared-"))
        results = []
        for result in campaign(kind, seed, runs, folder):
            results.append(result)
            if result.problem:
                wrong = True
                print(f"{result.case}: {result.problem}", flush=True)
        print(summary(kind, results), flush=True)
        with contextlib.suppress(OSError):  # what a run left that went wrong is kept
            folder.rmdir()
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
