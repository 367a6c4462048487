"""A QEMU and a qmon with drives of the same names, to which the same QMP messages are put."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.images import MIB, blank
from tests.support.peer import options_of
from tests.support.qcow2_images import run
from tests.support.two_monitors import TwoMonitors


def drives(folder: Path) -> list[str]:
    """The drives d0 (qcow2), v2 (an old qcow2), r and ro (raw)."""
    run("create", "-q", "-f", "qcow2", folder / "d0", "1M")
    run("create", "-q", "-f", "qcow2", "-o", "compat=0.10", folder / "v2", "1M")
    blank(folder / "r", MIB)
    blank(folder / "ro", MIB)
    return options_of(
        "id=d0,file=d0,format=qcow2,node-name=n,discard=unmap",
        "id=v2,file=v2,format=qcow2",
        "id=r,file=r,format=raw,discard=unmap",
        "id=ro,file=ro,format=raw,readonly=on",
    )


class Both:
    """A QEMU and a qmon to which messages are put; what differs fails the test."""

    def __init__(self, monitors: TwoMonitors) -> None:
        self.monitors = monitors
        self.clients = monitors.theirs.qmp(), monitors.ours.qmp()

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def put(self, command: str, **arguments: Any) -> Any:
        """Put a message to both; return the result, or the text of the error."""
        theirs, ours = (each.ask(command, **arguments) for each in self.clients)
        assert ours == theirs, (command, arguments)
        return ours["return"] if "return" in ours else ours["error"]["desc"]

    def ask(self, command: str, **arguments: Any) -> Any:
        """As ``put``; it must succeed."""
        answer = self.put(command, **arguments)
        assert not isinstance(answer, str), answer
        return answer

    def line(self, line: str) -> None:
        """Give a line to both monitors."""
        self.monitors.lines(line)

    def bitmaps(self) -> dict[str, Any]:
        """The bitmaps of the nodes by their files; they must be the same ones."""
        theirs, ours = (
            {
                node["file"]: node["dirty-bitmaps"]
                for node in each.run("query-named-block-nodes")
                if node.get("dirty-bitmaps")
            }
            for each in self.clients
        )
        assert ours == theirs
        return ours


@contextmanager
def both_in(folder: Path) -> Iterator[Both]:
    """Both, with the drive e without a medium."""
    with TwoMonitors(folder, drives=drives) as monitors:
        assert monitors.lines("drive_add 0 if=none,id=e") == (("OK",), ("OK",))
        both = Both(monitors)
        yield both
        both.close()
