"""Incremental copies of qcow2 overlays: the time goes with what is allocated, not with the disk's size.

    python -m bench.incremental [--data-mib 100] [--runs 11]

What is compared is moved in turn, so many times: an overlay of 1 GiB that holds so much data, in pieces all
over it, one of 1 TiB that holds as much, and one of 1 GiB that holds twice as much; this last by qmon and by
QEMU 7.2's ``migrate -i``; and a full image of 512 MiB as raw and as qcow2. Files are in tmpfs, the two sides
joined by TCP on loopback, ``max-bandwidth`` out of the way; QEMU gets ``downtime-limit`` 1, without which it
does not send everything. After each move but the largest qemu-img compares the images. Needs
qemu-system-x86_64 with ``-i``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench import ground, results
from bench.movers import QEMU_7, QMON, migrate
from bench.results import Column
from tests.support.ports import free_port

GIB = 1 << 30
PIECE = 1 << 20
FULL_SIZE = 512 << 20
SPARE_MIB = 200
"""For what qcow2 images need beside their data: it is the more, the more widely that is spread."""


def image_tool(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


@dataclass(frozen=True, slots=True)
class Case:
    """An overlay of ``size`` bytes that holds ``held`` bytes, in pieces of 1 MiB spread over all of it."""

    name: str
    size: int
    held: int

    def prepare(self, folder: Path) -> None:
        """Make the backing image, which is nearly empty, and the source's overlay."""
        base = folder / f"{self.name}.base"
        with base.open("wb") as file:
            file.write(os.urandom(PIECE))
            file.truncate(self.size)
        source = self.source(folder)
        self._create(source, base)
        count = self.held // PIECE
        pieces = [self.size // count // PIECE * PIECE * number for number in range(count)]
        lines = [
            word for place in pieces for word in ("-c", f"write -q -P {place // PIECE % 255 + 1} {place} 1M")
        ]
        subprocess.run(["qemu-io", *lines, source], check=True, stdout=subprocess.DEVNULL)

    def _create(self, overlay: Path, base: Path) -> None:
        overlay.unlink(missing_ok=True)
        image_tool("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay, self.size)

    def source(self, folder: Path) -> Path:
        return folder / f"{self.name}.qcow2"

    def target(self, folder: Path) -> Path:
        """An empty overlay over the same backing image."""
        target = folder / "target.qcow2"
        self._create(target, folder / f"{self.name}.base")
        return target


def drive(path: Path, image_format: str) -> list[str]:
    return ["-drive", f"file={path},id=d0,format={image_format},if=none"]


def by_qmon(folder: Path, source: Path, target: Path, port: int, flags: str, image_format: str) -> float:
    """A move by qmon; returns seconds from the command until both sides say that it is there."""
    state = ["-statedir", str(folder / f"state-{port}")]  # a new one: in the old one the disk has moved
    here, there = ([*QMON, *drive(path, image_format), *state] for path in (source, target))
    return migrate(folder, here, there, port, {"blk": True, "inc": flags == "blk inc"}).seconds


def by_qemu(folder: Path, source: Path, target: Path, port: int) -> float:
    """An incremental one by QEMU."""
    device = ["-device", "virtio-blk,drive=d0"]
    here, there = ([*QEMU_7, *drive(path, "qcow2"), *device] for path in (source, target))
    return migrate(folder, here, there, port, {"inc": True}, downtime_limit=1).seconds


def compare(one: Path, other: Path, image_format: str) -> str:
    """Say whether two images hold the same disk, as far as the first holds anything."""
    formats = ["-f", image_format, "-F", image_format]
    done = subprocess.run(["qemu-img", "compare", "-q", *formats, one, other], check=False)
    return "equal" if done.returncode == 0 else "DIFFERENT"


def prepare_full(folder: Path) -> None:
    """A full image of random data, in either format."""
    raw = folder / "full.raw"
    with raw.open("wb") as file:
        for _ in range(FULL_SIZE // PIECE):
            file.write(os.urandom(PIECE))
    image_tool("convert", "-f", "raw", "-O", "qcow2", raw, folder / "full.qcow2")


def full_target(folder: Path, image_format: str) -> Path:
    target = folder / f"target.{image_format}"
    target.unlink(missing_ok=True)
    image_tool("create", "-q", "-f", image_format, target, FULL_SIZE)
    return target


def main() -> int:
    """Run it; print each run, the medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-mib", type=int, default=100)
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    if ground.lacks(["qemu-img", QEMU_7[0]], "nothing measured"):
        return 0
    held = options.data_mib << 20
    cases = [Case("small", GIB, held), Case("large", 1024 * GIB, held), Case("double", GIB, 2 * held)]
    small, large, double = (f"{case.held >> 20} MiB in {case.size // GIB} GiB" for case in cases)
    seconds: dict[str, list[float]] = {}

    def note(run: int, what: str, took: float, verdict: str) -> None:
        seconds.setdefault(what, []).append(took)
        print(f"run {run + 1}: {what:32} {took:6.3f} s  {verdict}", flush=True)

    # the sources, the full images, a target beside them
    with ground.folder(4 * options.data_mib + 3 * (FULL_SIZE >> 20) + SPARE_MIB) as folder:
        for case in cases:
            case.prepare(folder)
        prepare_full(folder)
        for run in range(options.runs):
            for case, what in zip(cases, (small, large, double), strict=True):
                source, target = case.source(folder), case.target(folder)
                took = by_qmon(folder, source, target, free_port(), "blk inc", "qcow2")
                verdict = "not compared" if case.size > GIB else compare(source, target, "qcow2")
                note(run, f"qmon, {what}", took, verdict)
        for run in range(options.runs):
            for way in ("qmon", "QEMU"):
                source, target = cases[2].source(folder), cases[2].target(folder)
                if way == "qmon":
                    took = by_qmon(folder, source, target, free_port(), "blk inc", "qcow2")
                else:
                    took = by_qemu(folder, source, target, free_port())
                note(run, f"{way} beside it, {double}", took, compare(source, target, "qcow2"))
        for run in range(options.runs):
            for image_format in ("raw", "qcow2"):
                source, target = folder / f"full.{image_format}", full_target(folder, image_format)
                took = by_qmon(folder, source, target, free_port(), "blk", image_format)
                note(run, f"qmon, {image_format} in full", took, compare(source, target, image_format))
    for what, values in seconds.items():
        print(f"{what:32} median {statistics.median(values):.3f} s")
    of: dict[str, float] = {}
    for text, over, under in (
        ("1 TiB takes {:.2f} of the time of 1 GiB that holds as much", f"qmon, {large}", f"qmon, {small}"),
        ("twice the data take {:.2f} times as long", f"qmon, {double}", f"qmon, {small}"),
        (
            "qmon takes {:.2f} of QEMU's time",
            f"qmon beside it, {double}",
            f"QEMU beside it, {double}",
        ),
        ("qcow2 in full takes {:.2f} of the time of raw", "qmon, qcow2 in full", "qmon, raw in full"),
    ):
        ratio = statistics.median(
            one / other for one, other in zip(seconds[over], seconds[under], strict=True)
        )
        print(text.format(ratio))
        of[over] = ratio
    rows = [(what, [statistics.median(values), of.get(what)]) for what, values in seconds.items()]
    columns = [Column("median, s", plotted=True), Column("ratio")]
    results.keep("incremental", f"overlays and full images; {options.runs} runs", columns, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
