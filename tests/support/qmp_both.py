"""A QEMU and a qmon that get the same QMP messages."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.images import MIB, blank, drive
from tests.support.peer import MACHINE, QEMU_7
from tests.support.processes import Lab
from tests.support.qmp_client import QmpClient


class Both:
    """A QEMU and a qmon with drives of the same names."""

    def __init__(self, folder: Path, lab: Lab, *options: str) -> None:
        drives: dict[str, list[str]] = {}
        for side in ("qemu", "qmon"):
            (folder / side).mkdir()
            drives[side] = [
                *drive(blank(folder / side / "d0.img", MIB), "d0"),
                *drive(blank(folder / side / "ro0.img", MIB), "ro0", readonly="on"),
            ]
        self.folder = folder
        self._count = 0
        path = folder / "qemu.qmp"
        self._qemu = subprocess.Popen(
            [
                *QEMU_7,
                *MACHINE,
                "-qmp",
                f"unix:{path},server,nowait",
                *drives["qemu"],
                *options,
            ],
            stdin=subprocess.DEVNULL,
        )
        try:
            self.qemu = QmpClient(path, negotiates=False)
            self.process = lab.start("qmon", *drives["qmon"], *options)
            self.qmon = QmpClient(self.process.qmp_path, negotiates=False)
        except BaseException:
            self._end_qemu()
            raise

    def _end_qemu(self) -> None:
        self._qemu.kill()
        self._qemu.wait()

    def negotiate(self) -> None:
        for side in (self.qemu, self.qmon):
            assert side.ask("qmp_capabilities") == {"return": {}}

    def agree(self, message: Any) -> dict[str, Any]:
        """Send a message to both; the answers must be the same, to the order of members."""
        theirs, ours = self.qemu.send(message), self.qmon.send(message)
        assert ours == theirs, message
        assert json.dumps(ours) == json.dumps(theirs), message
        return ours

    def agree_on_text(self, data: bytes) -> list[str]:
        """Send bytes to both; the answers must be the same texts. Return them."""
        self._count += 1
        # A control character ends whatever was begun. The last command says that all has been read.
        data += b'\n\x01\n{"execute": "query-name", "id": "heard %d"}' % self._count
        theirs, ours = (texts(side, data, f"heard {self._count}") for side in (self.qemu, self.qmon))
        assert ours == theirs, data
        return ours

    def agree_on(self, command: str, **arguments: Any) -> dict[str, Any]:
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.agree({"execute": command, "arguments": named})

    def close(self) -> None:
        self.qmon.close()
        self.qemu.close()
        self._end_qemu()


def texts(client: QmpClient, data: bytes, last: str) -> list[str]:
    """Send bytes; return the texts of all messages before the one that mentions ``last``."""
    client.socket.sendall(data)
    found: list[str] = []
    while not found or last not in found[-1]:
        try:
            line = client.lines.readline()
        except TimeoutError as error:
            raise AssertionError(f"no answer from {client.greeting}, after {found} to {data!r}") from error
        if not line:
            raise ConnectionError(f"the QMP server closed the connection after {data!r}")
        found.append(line.decode())
    return found[:-1]
