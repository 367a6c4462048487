"""The announcement's line on running QEMUs, shown: a guest moves with its disk, and counts on.

    python -m bench.demo_qemu [--size-mib 256]

Two QEMUs on this machine stand for two hosts. The guest writes the numbers 1, 2, 3 ... to its disk and says
each when it is written. The two consoles move it while it counts. At the end it counts at the destination,
and every number that it ever said is looked up on the disk there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.demo import COMMENT, WIDTH, announced_port
from qmon.notation.units import MIB, human_size
from tests.support.peer import QEMU_10
from tests.support.vms.disks import Filling
from tests.support.vms.judgement import judge
from tests.support.vms.machine import Machine, Version
from tests.support.vms.pair import Pair, Setup

QMON = [sys.executable, "-m", "qmon"]


class Console:
    """A console on a QEMU, which takes one line after the other, and shows each."""

    def __init__(self, machine: Machine, *options: str) -> None:
        self._name = machine.name
        words = ["-connect", f"unix:{machine.qmp_path.name}", *options]
        print(f"{self._name}$ qmon {' '.join(words)}", flush=True)
        self._process = subprocess.Popen(
            [*QMON, *words, "-json", "-statedir", "state"],
            cwd=machine.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def give(self, line: str) -> list[str]:
        """Give a line; show it and its answer, which is returned."""
        print(f"{self._name}: (qemu) {line}", flush=True)
        answer = self.ask(line)
        for each in answer:
            print(f"{self._name}: {each}", flush=True)
        return answer

    def ask(self, line: str) -> list[str]:
        """Give a line; return the lines that it prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline() or "{}")
        return [text for text in (found.get("output"), found.get("error")) if text]

    def close(self) -> int:
        """End it; return its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()


def watch(console: Console) -> str:
    """Show the progress until the migration ends; return its status."""
    while True:
        text = "\n".join(console.ask("info migrate"))
        found = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        status = found.get("Migration status", "none").split()[0]
        if "total disk" in found:
            remaining, total = (int(found[key].split()[0]) for key in ("remaining disk", "total disk"))
            part = 1 - remaining / max(total, 1)
            print(f"\r[{'#' * int(part * WIDTH):{WIDTH}}] {part:4.0%}  {status:14}", end="", flush=True)
        if status in ("completed", "failed", "cancelled", "none"):
            print()
            return status
        time.sleep(0.1)


def move(pair: Pair) -> int:
    """Move the guest; return 0 when it counts at the destination and no number is lost."""
    port = announced_port()
    destination = Console(pair.destination, "-incoming", f"tcp:127.0.0.1:{port}")
    source = Console(pair.source)
    try:
        destination.give("info status")
        source.give(f"migrate -d blk tcp:127.0.0.1:{port}      {COMMENT}")
        if watch(source) != "completed":
            return 1
        source.give("info status")
        destination.give("info status")
    finally:
        statuses = source.close(), destination.close()
    counted = pair.destination.counted()
    print(f"the guest       has counted to {counted}, and goes on at the destination")
    problems = judge(pair, pair.destination)
    if problems or any(statuses):
        print("\n".join(problems) or "a console has failed")
        return 1
    print("compared        every number that it said is on the destination's disk")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mib", type=int, default=256)
    options = parser.parse_args()
    size = options.size_mib * MIB
    version = Version.TEN if Path(QEMU_10[0]).exists() else Version.SEVEN
    with tempfile.TemporaryDirectory(prefix="qmon-demo-") as name:
        setup = Setup(version, version, filling=Filling(size, size // 4 // MIB * MIB))
        print(f"a guest with a disk of {human_size(size)} in a QEMU, and another QEMU that waits for it")
        with Pair(Path(name) / "pair", setup) as pair:
            return move(pair)


if __name__ == "__main__":
    sys.exit(main())
