"""The main job, shown: a disk moves from one qmon to another while a guest goes on writing to it.

    python -m bench.demo [--size-mib 256]

Two processes on this machine stand for two hosts. The guest is a client of the source's NBD export; when the
source has let go, it goes on at the destination's export with the write that was not acknowledged. At the
end every write that was ever acknowledged is looked up in the destination's image, and the rest of the
image is compared with what it was.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from qmon.notation.units import human_size
from tests.support.guest import Guest
from tests.support.hmp_client import HmpClient
from tests.support.ports import free_port

BLOCK = 4096
COMMENT = "# for live migration with complete storage copy"
WIDTH = 40


class Writer:
    """The guest: writes random blocks at random places, and knows what the disk must hold."""

    def __init__(self, exports: list[Path], content: bytearray) -> None:
        self._exports = exports
        self.content = content
        """What the disk holds, by what was acknowledged."""
        self.acknowledged = 0
        self.longest_wait = 0.0
        self.moves = 0
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guest", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the write that is under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - told in the main thread, whatever it is
            self.error = error

    def _write(self) -> None:
        chance = random.Random(1)
        guest = Guest(self._exports[0], "d0")
        while not self._stop.is_set():
            offset = chance.randrange(len(self.content) // BLOCK) * BLOCK
            data = chance.randbytes(BLOCK)
            begun = time.monotonic()
            try:
                guest.write(offset, data)
            except OSError:
                if self.moves:
                    raise
                self.moves += 1
                guest = Guest(self._exports[1], "d0")
                guest.write(offset, data)
            self.longest_wait = max(self.longest_wait, time.monotonic() - begun)
            self.content[offset : offset + BLOCK] = data
            self.acknowledged += 1
            self._stop.wait(0.0003)


def announced_port() -> int:
    """The announcement's port, or another where it is taken."""
    try:
        return free_port(4444)
    except OSError:
        return free_port()


def start(folder: Path, side: str, image: Path, *more: str) -> subprocess.Popen[str]:
    """Start one side with its monitors on stdin and on a socket, and show the command."""
    command = ["-drive", f"file={image.name},id=d0,format=raw,if=none", *more]
    print(f"{side}$ qmon {' '.join(command)}")
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "qmon",
            *command,
            "-statedir",
            "state",
            "-monitor",
            "stdio",
            "-monitor",
            f"unix:{side}.sock,server,nowait",
        ],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def show(side: str, line: str) -> None:
    print(f"{side}: (qemu) {line}", flush=True)


def give(process: subprocess.Popen[str], side: str, line: str) -> None:
    """Paste a line as it stands into a monitor on stdin."""
    show(side, line)
    assert process.stdin is not None
    process.stdin.write(f"(qemu) {line}\n")
    process.stdin.flush()


def figures(text: str) -> dict[str, str]:
    """``info migrate`` by its names."""
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def watch(monitor: HmpClient) -> dict[str, str]:
    """Show the progress until the migration ends; return its figures."""
    while True:
        found = figures(monitor.command("info migrate"))
        status = found.get("Migration status", "none")
        if "total disk" in found:
            remaining, total = (int(found[key].split()[0]) for key in ("remaining disk", "total disk"))
            part = 1 - remaining / total
            bar = "#" * int(part * WIDTH)
            print(f"\r[{bar:{WIDTH}}] {part:4.0%}  {status:10}", end="", flush=True)
        if status.split()[0] in ("completed", "failed", "cancelled"):
            print()
            return found
        time.sleep(0.1)


def run(folder: Path, size: int) -> int:
    """Move a disk of ``size`` bytes; return 0 when every byte is where it belongs."""
    source_image, target_image = folder / "source.img", folder / "target.img"
    chance = random.Random(0)
    content = bytearray(b"".join(chance.randbytes(1 << 20) for _ in range(size >> 20)))
    source_image.write_bytes(content)
    with target_image.open("wb") as file:
        file.truncate(size)
    port = announced_port()
    target = start(folder, "target", target_image, "-incoming", f"tcp:127.0.0.1:{port}")
    source = start(folder, "source", source_image)
    try:
        with HmpClient(folder / "target.sock"), HmpClient(folder / "source.sock") as monitor:
            for process, side in ((source, "source"), (target, "target")):
                give(process, side, f"nbd_server_start unix:{side}-nbd.sock")
                give(process, side, "nbd_server_add -w d0")
            exports = [folder / f"{side}-nbd.sock" for side in ("source", "target")]
            wait_for(exports)
            writer = Writer(exports, content)
            writer.start()
            time.sleep(0.5)
            give(source, "source", f"migrate -d blk tcp:0:{port}      {COMMENT}")
            found = watch(monitor)
            if found["Migration status"] != "completed":
                print(f"the migration did not complete: {found['Migration status']}")
                return 1
            time.sleep(0.5)
            writer.stop()
            if writer.error is not None:
                print(f"the guest failed: {writer.error}")
                return 1
        for process in (source, target):
            process.communicate("(qemu) quit\n", timeout=30)
    finally:
        for process in (source, target):
            process.kill()
            process.wait()
    return report(found, writer, target_image)


def wait_for(exports: list[Path]) -> None:
    """Return when both NBD servers serve the drive."""
    deadline = time.monotonic() + 10
    for path in exports:
        while True:
            try:
                Guest(path, "d0").close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def report(found: dict[str, str], writer: Writer, image: Path) -> int:
    """Compare, print the figures, return the exit status."""
    arrived = image.read_bytes()
    wrong = [
        offset
        for offset in range(0, len(arrived), BLOCK)
        if arrived[offset : offset + BLOCK] != writer.content[offset : offset + BLOCK]
    ]
    seconds = int(found["total time"].split()[0]) / 1000
    moved = int(found["transferred disk"].split()[0]) * 1024
    print(f"size            {human_size(len(arrived))}")
    print(f"time            {seconds:.2f} s")
    print(f"rate            {human_size(moved / seconds)}/s, {human_size(moved)} sent")
    print(f"rounds          {found.get('dirty sync count', '?')}")
    print(f"downtime        {found['downtime']}")
    pause = f"{writer.longest_wait * 1000:.0f} ms"
    print(f"longest pause   {pause}, of {writer.acknowledged} writes, the one at the switchover included")
    if wrong:
        print(f"DIFFERENT       {len(wrong)} blocks, the first at {wrong[0]}")
        return 1
    print(f"compared        all {writer.acknowledged} acknowledged writes are on the destination's disk")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mib", type=int, default=256)
    options = parser.parse_args()
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    with tempfile.TemporaryDirectory(prefix="qmon-demo-") as name:
        return run(Path(name), options.size_mib << 20)


if __name__ == "__main__":
    sys.exit(main())
