"""A QEMU with a counting guest, or one that waits for it."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tests.support.peer import QEMU_7, QEMU_10
from tests.support.qmp_client import QmpClient
from tests.support.vms.boot_sector import LAST_ADDRESS, said
from tests.support.vms.disks import Image
from tests.support.waiting import PATIENCE, eventually


class Version(enum.Enum):
    SEVEN = "7.2"
    TEN = "10"

    @property
    def program(self) -> Sequence[str]:
        return QEMU_7 if self is Version.SEVEN else QEMU_10


class Style(enum.Enum):
    """How a machine's disks are given."""

    VIRTIO = "drive-virtio"
    IDE = "drive-ide"
    SCSI = "drive-scsi"
    IF_VIRTIO = "if-virtio"
    IF_IDE = "if-ide"
    IOTHREAD = "drive-virtio-iothread"
    BLOCKDEV = "blockdev-virtio"
    BLOCKDEV_SCSI = "blockdev-scsi"

    def options(self, images: Sequence[Image]) -> list[str]:
        """Return the options of QEMU's command line."""
        bus = {"virtio": "virtio-blk-pci", "ide": "ide-hd", "scsi": "scsi-hd"}[self.value.split("-")[1]]
        words = ["-device", "virtio-scsi-pci"] if bus == "scsi-hd" else []
        words += ["-object", "iothread,id=thread"] if self is Style.IOTHREAD else []
        for number, image in enumerate(images):
            words += self._disk(number, image, bus)
        return words

    def _disk(self, number: int, image: Image, bus: str) -> list[str]:
        what, _, interface = self.value.partition("-")
        file = image.path.name
        place = f",bus=ide.0,unit={number}" if bus == "ide-hd" else ""
        place += ",iothread=thread" if self is Style.IOTHREAD else ""
        device = f"{bus},id=disk{number}{place},bootindex={number},drive="
        if what == "if":
            return ["-drive", f"file={file},format={image.format},if={interface},discard=unmap"]
        if what == "drive":
            drive = f"file={file},format={image.format},if=none,id=d{number},discard=unmap"
            return ["-drive", drive, "-device", f"{device}d{number}"]
        common = {"discard": "unmap"}
        below = {"driver": "file", "filename": file, "node-name": f"file{number}", **common}
        top = {"driver": image.format, "file": f"file{number}", "node-name": f"fmt{number}", **common}
        words = ["-blockdev", json.dumps(below), "-blockdev", json.dumps(top)]
        return [*words, "-device", f"{device}fmt{number}"]

    def cdrom(self, number: int, medium: Path | None) -> list[str]:
        """Return the options of a CD-ROM drive, empty or with a medium."""
        what = self.value.partition("-")[0]
        if what == "if":
            return ["-drive", "if=ide,media=cdrom" + (f",format=raw,file={medium.name}" if medium else "")]
        device = f"ide-cd,id=cdrom{number},bus=ide.1,unit={number}"
        if medium is None:
            return ["-device", device]
        name = f"cd{number}"
        if what == "drive":
            drive = f"if=none,id={name},media=cdrom,format=raw,file={medium.name},readonly=on"
            return ["-drive", drive, "-device", f"{device},drive={name}"]
        below = {"driver": "file", "filename": medium.name, "node-name": name, "read-only": True}
        return ["-blockdev", json.dumps(below), "-device", f"{device},drive={name}"]


class Machine:
    """A QEMU in ``folder``, which holds its images. It has two QMP sockets.

    ``NAME.qmp`` is for whoever moves the guest, ``NAME.look`` for a test that looks on.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        version: Version,
        images: Sequence[Image],
        *,
        style: Style = Style.VIRTIO,
        cdroms: Sequence[Path | None] = (),
        kind: str = "pc",
        accelerator: str = "tcg",
        qmp_port: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """``qmp_port``: where a console reaches it by TCP, and not by a Unix socket."""
        self.folder = folder
        self.name = name
        self.version = version
        self.images = images
        self.style = style
        self.qmp_path = folder / f"{name}.qmp"
        self.address = f"tcp:127.0.0.1:{qmp_port}" if qmp_port else f"unix:{name}.qmp"
        """What a console in the folder is told after ``-connect``."""
        self._said = folder / f"{name}.said"
        self._log = folder / f"{name}.log"
        self._command = [
            *(*version.program, "-M", kind, "-accel", accelerator, "-m", "16"),
            *("-nodefaults", "-display", "none"),
            *style.options(images),
            *(word for number, medium in enumerate(cdroms) for word in style.cdrom(number, medium)),
            *("-chardev", f"file,id=said,path={self._said.name}"),
            *("-device", "isa-debugcon,iobase=0xe9,chardev=said"),
            *("-qmp", f"unix:{name}.qmp,server=on,wait=off"),
            *("-qmp", f"unix:{name}.look,server=on,wait=off"),
            *(("-qmp", f"{self.address},server=on,wait=off") if qmp_port else ()),
            *options,
        ]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @cached_property
    def look(self) -> QmpClient:
        """The test's own connection, made when it is used first."""
        try:
            return QmpClient(self.folder / f"{self.name}.look")
        except OSError as error:
            self.kill()
            raise AssertionError(f"{self.name} did not start: {self.log()}") from error

    # What its guest says

    def said_bytes(self) -> bytes:
        return self._said.read_bytes() if self._said.exists() else b""

    def said_size(self) -> int:
        """How many bytes its guest has said here; five are a number."""
        return self._said.stat().st_size if self._said.exists() else 0

    def said(self) -> list[int]:
        """The numbers that its guest has acknowledged here. A hand-over may have cut the first one."""
        data = self.said_bytes()
        first = next((place for place in range(min(5, len(data))) if data[place] >> 7), 0)
        return said(data[first:])

    def counted(self) -> int:
        """The last acknowledged number by the guest's memory."""
        answer = self.look.run("human-monitor-command", command_line=f"xp /1wd {LAST_ADDRESS:#x}")
        return int(answer.split(":")[1].split()[0])

    def wait_to_count(self, more: int = 20, patience: float = 2 * PATIENCE) -> None:
        """Wait until the guest has acknowledged so many more numbers here."""
        wanted = self.said_size() + 5 * more
        eventually(
            lambda: self.said_size() >= wanted or not self.is_alive(),
            f"{self.name} counts {more} further\n{self.log()}",
            patience,
        )
        assert self.is_alive(), f"{self.name} has ended: {self.log()}"

    # The process

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def status(self) -> str:
        """The run state."""
        return str(self.look.run("query-status")["status"])

    def signal(self, number: int) -> None:
        """Send it a signal: SIGSTOP makes it silent, SIGCONT wakes it."""
        if self.is_alive():
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it without a word, as a power cut would."""
        if self.is_alive():
            self.process.kill()
            self.process.wait()

    def quit(self) -> None:
        """End it; what its guest wrote is in its images then."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def close(self) -> None:
        """End it if it still runs, and the test's connection."""
        if "look" in self.__dict__:
            self.look.close()
        self.quit()

    def sockets(self) -> int:
        """How many sockets the process has."""
        count = 0
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed just now
                count += os.readlink(entry).startswith("socket:")
        return count
