"""Other programs' NBD servers on a Unix socket, which a test can kill and start again."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.peers import require
from tests.support.waiting import PATIENCE, connect_when_there

QEMU_7 = ("qemu-nbd",)
QEMU_10 = ("/opt/qemu10/run", "qemu-nbd")


class NbdProgram:
    """A server that runs in ``folder``; ``{socket}`` in its command is where it listens."""

    def __init__(self, folder: Path, *command: str | Path, name: str = "remote") -> None:
        require(str(command[0]))
        self.folder = folder
        self.socket = folder / name
        self.uri = f"nbd+unix:///d0?socket={self.socket}"
        self._command = [str(word).replace("{socket}", str(self.socket)) for word in command]
        self.start()

    def __enter__(self) -> NbdProgram:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(self._command, cwd=self.folder)
        connect_when_there(self.socket).close()

    def kill(self) -> None:
        """End it in the middle of what it does."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it; a second call does nothing."""
        self.process.terminate()
        self.process.wait(PATIENCE)


def qemu_nbd(
    program: tuple[str, ...], folder: Path, image: str = "remote.img", *options: str, name: str = "remote"
) -> NbdProgram:
    """A server of QEMU's for an image in ``folder``; the export is d0."""
    command = (*program, "--persistent", "--shared=8", "-k", "{socket}", "-x", "d0", "-f", "raw", *options)
    return NbdProgram(folder, *command, image, name=name)


def nbdkit(folder: Path, *options: str, name: str = "remote") -> NbdProgram:
    """A server of nbdkit; ``options`` are the filters, the plugin, and their parameters."""
    return NbdProgram(folder, "nbdkit", "-f", "-U", "{socket}", "-e", "d0", *options, name=name)
