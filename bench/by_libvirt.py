"""Moves a guest with its disk between two QEMU 7.2, by qmon's consoles and by virsh, in turn in one run.

    python -m bench.by_libvirt [--size-mib 1024] [--runs 3]

``virsh migrate --live --copy-storage-all`` runs between two libvirtds on this machine, which take each other
for different hosts. The guest writes to its disk all the time (``bench.between_qemus``). The time is from the
order until virsh has returned, or the guest says its first number at the destination; the downtime is that of
``virsh domjobinfo``, and by the guest's own numbers with the consoles.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench import between_qemus, ground, results
from bench.between_qemus import Outcome
from bench.results import Column
from tests.support.images import MIB
from tests.support.libvirt import Libvirt
from tests.support.vms.boot_sector import Counting
from tests.support.vms.disks import RAW, Filling, empty_image, source_image
from tests.support.vms.machine import Version

NAME = "guest"
_DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' discard='unmap'/>
      <source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
_DOWNTIME = re.compile(r"Total downtime:\s+(\d+)\s+ms")


def by_virsh(size: int) -> Outcome:
    """Move a new guest once. Exits the program if that fails."""
    filling, counting = Filling(size, size // 2), Counting()
    with Libvirt() as here, Libvirt() as there:
        disks = {each: each.folder / f"{side}-0" for side, each in (("source", here), ("destination", there))}
        source_image(disks[here], RAW, filling, counting, inc=False)
        empty_image(disks[there], RAW, filling, counting, inc=False)
        for each in (here, there):
            each.folder.chmod(0o755)
            each.give_away()
        definition = here.folder / "domain.xml"
        definition.write_text(_DOMAIN.format(name=NAME, disk=disks[here]))
        here.virsh("create", str(definition))
        time.sleep(between_qemus.WARM_UP_SECONDS)
        arriving = there.folder / "domain.xml"
        arriving.write_text(
            here.virsh("dumpxml", "--migratable", NAME).replace(str(disks[here]), str(disks[there]))
        )
        there.give_away()
        here.give_away()
        options = ["--live", "--copy-storage-all", "--xml", str(arriving)]
        begun = time.monotonic()
        here.virsh("migrate", *options, NAME, there.uri, "tcp://127.0.0.1")
        took = time.monotonic() - begun
        told = _DOWNTIME.search(there.virsh("domjobinfo", "--completed", NAME))
        there.virsh("destroy", NAME)
        return Outcome(took, float("nan"), int(told[1]) / 1000 if told else float("nan"))


def by_consoles(folder: Path, size: int) -> Outcome:
    return between_qemus.measure(folder, size, "sample", Version.SEVEN)


def main() -> int:
    """Run it; print each run, the medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if ground.lacks(["libvirtd", "virsh", "qemu-system-x86_64"], "nothing measured"):
        return 0
    size = options.size_mib * MIB
    found: dict[str, list[Outcome]] = {"consoles": [], "virsh": []}
    with ground.folder(2 * options.size_mib) as folder:
        folder.chmod(0o755)  # libvirtd is another user's
        tempfile.tempdir = str(folder)
        for run in range(options.runs):
            for way in found:
                one = by_consoles(folder / "pair", size) if way == "consoles" else by_virsh(size)
                found[way].append(one)
                print(
                    f"run {run + 1}: {way:8} {one.seconds:6.2f} s, downtime {one.downtime * 1000:4.0f} ms",
                    flush=True,
                )
    pairs = list(zip(found["consoles"], found["virsh"], strict=True))
    ratio = statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)
    print(f"the consoles take {ratio:.2f} of virsh's time (median of {options.runs} pairs)")
    names = {"consoles": "qmon's consoles", "virsh": "virsh migrate --copy-storage-all"}
    rows = [
        (
            names[way],
            [
                statistics.median(one.seconds for one in ones),
                statistics.median(one.downtime for one in ones) * 1000,
                ratio if way == "consoles" else 1.0,
            ],
        )
        for way, ones in found.items()
    ]
    columns = [
        Column("median, s", plotted=True),
        Column("downtime, ms", "{:.0f}"),
        Column("of virsh's time"),
    ]
    what = (
        f"A guest with a disk of {options.size_mib} MiB, half of it random data, that writes all the time;"
        f" QEMU 7.2; {options.runs} pairs of moves"
    )
    results.keep("by_libvirt", what, columns, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
