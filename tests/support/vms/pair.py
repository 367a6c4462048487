"""Two QEMUs: one has a counting guest, and the other waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.support.images import MIB, filled
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.vms.boot_sector import Counting
from tests.support.vms.disks import RAW, Filling, Image, empty_image, source_image
from tests.support.vms.leftovers import Standing, standing
from tests.support.vms.machine import Machine, Style, Version


@dataclass(frozen=True, slots=True)
class Setup:
    """What a pair is made of; None at the destination is as at the source."""

    source: Version = Version.TEN
    destination: Version = Version.TEN
    style: Style = Style.VIRTIO
    destination_style: Style | None = None
    format: str = RAW
    destination_format: str | None = None
    disks: int = 1
    cdroms: bool = False
    """Whether there are two CD-ROM drives, one empty and one with a medium."""
    inc: bool = False
    """Whether the disks are overlays on a file that both sides have."""
    filling: Filling = field(default_factory=Filling)
    burst: int = 16
    """Numbers between two of the guest's rests (``boot_sector.Counting``)."""
    by_tcp: bool = False
    """Whether the consoles reach the QEMUs by TCP: no descriptors can be passed then."""
    accelerator: str = "tcg"
    options: tuple[str, ...] = ()
    """More options for both QEMUs; ``{name}`` in them is the machine's name."""

    @property
    def counting(self) -> Counting:
        return Counting(burst=self.burst, disks=self.disks)

    @property
    def kind(self) -> str:
        """The type of the machines, which both QEMUs have."""
        return "pc" if self.source is self.destination else "pc-i440fx-7.2"

    def filling_of(self, disk: int) -> Filling:
        return Filling(self.filling.size, self.filling.noise, self.filling.seed + disk)

    def __str__(self) -> str:
        def both(one: str, other: str) -> str:
            return one if one == other else f"{one}-to-{other}"

        styles = both(self.style.value, (self.destination_style or self.style).value)
        formats = both(self.format, self.destination_format or self.format)
        words = [f"{self.source.value}-to-{self.destination.value}", styles, formats]
        words += ["two-disks"] * (self.disks == 2) + ["cdroms"] * self.cdroms + ["by-tcp"] * self.by_tcp
        return "-".join([*words, "inc" if self.inc else "full"])


class Pair:
    """The two machines of a setup in a folder. When it is entered, the guest counts at the source."""

    def __init__(
        self,
        folder: Path,
        setup: Setup | None = None,
        moved: Pair | None = None,
        *,
        destination_options: Sequence[str] = (),
    ) -> None:
        """``moved``: a pair whose guest has been moved; its destination is the source here."""
        self._destination_options = destination_options
        self.folder = folder
        self.setup = setup or Setup()
        folder.mkdir(parents=True, exist_ok=True)
        require("qemu-img", self.setup.source.program[0], self.setup.destination.program[0])
        self.said_before: bytes = moved.said_before + moved.source.said_bytes() if moved else b""
        """What the guest said before it came to the source, as far as that was elsewhere."""
        self.source: Machine
        if moved:
            self.source = moved.destination
        else:
            self.source = self._start("source", self.setup.source, self._images("source", source_image))
        name = f"{self.source.name}-2" if moved else "destination"
        self.destination: Machine = self._start(name, self.setup.destination, self._images(name, empty_image))
        self.before: dict[str, Standing] = {}
        """What stood in each QEMU before anybody moved the guest."""

    def said_bytes(self) -> bytes:
        """All that the guest has said, in the order in which it was moved."""
        return self.said_before + self.source.said_bytes() + self.destination.said_bytes()

    @property
    def machines(self) -> tuple[Machine, Machine]:
        return self.source, self.destination

    def _images(self, name: str, make: Callable[..., Image]) -> list[Image]:
        setup = self.setup
        format_ = setup.format if name == "source" else setup.destination_format or setup.format
        return [
            make(
                self.folder / f"{name}-{disk}", format_, setup.filling_of(disk), setup.counting, inc=setup.inc
            )
            for disk in range(setup.disks)
        ]

    def _start(self, name: str, version: Version, images: list[Image]) -> Machine:
        setup = self.setup
        incoming = name != "source"
        style = (setup.destination_style if incoming else None) or setup.style
        medium = self.folder / f"{name}.iso"
        return Machine(
            self.folder,
            name,
            version,
            images,
            style=style,
            cdroms=[None, filled(medium, MIB, seed=9)] if setup.cdroms else [],
            kind=setup.kind,
            accelerator=setup.accelerator,
            qmp_port=free_port() if setup.by_tcp else None,
            options=[
                *(["-incoming", "defer", *self._destination_options] if incoming else []),
                *(word.replace("{name}", name) for word in setup.options),
            ],
        )

    def start_destination_anew(self) -> None:
        """Kill its QEMU, as a crash would, and start another at the same address with the same images."""
        former = self.destination
        former.kill()
        self.destination = self._start(former.name, former.version, list(former.images))
        self.before[former.name] = standing(self.destination)

    def __enter__(self) -> Pair:
        try:
            self.source.wait_to_count()
            self.before = {machine.name: standing(machine) for machine in self.machines}
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End both."""
        for machine in self.machines:
            machine.close()
