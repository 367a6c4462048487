"""A counting guest whose disk is an NBD export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.vms.boot_sector import Counting
from tests.support.vms.disks import RAW, Filling, Image, wrong
from tests.support.vms.machine import Machine, Version
from tests.support.waiting import eventually


class GuestOnExport:
    """A QEMU in ``folder`` that boots from an export and counts on it.

    ``server`` is the export as QEMU's block driver takes it (``driver=nbd,server.type=...``), ``options`` are
    more for QEMU. A write that fails stops the guest, and is repeated when it goes on.
    """

    counting = Counting()
    filling = Filling(size=16 << 20, noise=2 << 20)

    def __init__(self, folder: Path, version: Version, server: str, options: Sequence[str] = ()) -> None:
        disk = f"{server},if=none,id=disk,discard=unmap"
        device = "virtio-blk-pci,drive=disk,bootindex=0,werror=stop,rerror=stop"
        words = [*options, "-drive", disk, "-device", device]
        self.machine = Machine(folder, "guest", version, [], options=words)

    @classmethod
    def fill(cls, image: Path) -> Path:
        """Make the image that it boots from."""
        cls.filling.write(image, cls.counting.boot_sector())
        return image

    def go_on(self) -> None:
        """Wait until it counts further. Where a request has failed and stopped it, it is let run again.

        While QEMU waits for the export, to stop the guest, its monitor does not answer.
        """
        wanted = self.machine.said_size() + 5 * 20

        def counts() -> bool:
            if self.machine.status() == "io-error":
                self.machine.look.run("cont")
            return self.machine.said_size() >= wanted

        eventually(counts, "the guest counts on")

    def wrong(self, image: Path) -> list[str]:
        """Stop it, and return a line for all that is wrong on its disk."""
        self.machine.look.run("stop")
        last = self.machine.counted()
        self.machine.quit()
        return wrong(Image(image, RAW), self.filling, self.counting, last)
