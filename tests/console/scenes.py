"""Scenes on a real terminal with a real qmon, and what is to be seen in them: the screens in the manual.

    python -m tests.console.scenes FOLDER

writes each as a picture to FOLDER.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.guest import Guest
from tests.support.images import KIB, MIB, blank, drive, filled
from tests.support.peers import exit_without
from tests.support.picture import picture, uncoloured
from tests.support.processes import CHECKOUT, Qmon
from tests.support.terminal import Terminal

COLUMNS, ROWS = 80, 16
NARROW = 60

_BAR = re.compile(r"\[#*\.*\]")
_TIME_LEFT = re.compile(r"(?:\d+ h )?(?:\d+ min )?\d+ (?:s|min) left")
_SIZE = re.compile(r"\d+(?:\.\d+)? (?:B|[KMG]iB)")
_SHELL = re.compile(r"\A(?:.*\n)*(?=qmon \S+ monitor - )")
"""What a terminal that can't be cleared shows from before."""
_NUMBER = re.compile(r" *\d+")
_LONG = re.compile(r"^Ctrl-C returns to the prompt; the migration goes on\n", re.MULTILINE)
"""What is told when a busy machine takes some seconds to get as far as the picture shows."""


def shape(screen: str) -> str:
    """A screen without what is never the same twice: numbers, sizes, how far a bar is."""
    screen = _LONG.sub("", screen)
    for pattern, name in ((_BAR, "[BAR]"), (_TIME_LEFT, "TIME left"), (_SIZE, "SIZE"), (_NUMBER, " N")):
        screen = pattern.sub(name, screen)
    return "\n".join(row.rstrip() for row in screen.split("\n"))


class Stage:
    """A folder with a disk, and qmon on terminals there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.screens: dict[str, str] = {}
        """Each as its picture."""
        self._terminals: list[Terminal] = []
        filled(folder / "disk.img", 64 * MIB)

    @contextlib.contextmanager
    def console(self, columns: int = COLUMNS, rows: int = ROWS, **environ: str) -> Iterator[Terminal]:
        """A terminal with qmon at its first prompt; ``disk.img`` is its drive d0."""
        state = {"PYTHONPATH": str(CHECKOUT), "XDG_STATE_HOME": str(self.folder / "state")}
        socket = Path(tempfile.mkdtemp(dir=self.folder), "tmux")
        terminal = Terminal(socket, columns, rows, **state, **environ)
        try:
            options = shlex.join(["-drive", "file=disk.img,id=d0,format=raw"])
            terminal.type(f"clear; cd {self.folder}; {sys.executable} -m qmon {options}\r")
            terminal.wait_for(r"^qmon .*\n(?:.*\n)*\(qemu\) $")
            yield terminal
            terminal.press("C-c")
            terminal.type("quit\r")
            if terminal.wait_for(r"\(y/n\) *$|^\$ $").rstrip().endswith("(y/n)"):
                terminal.type("y")
            terminal.wait_for(r"^\$ $")
        finally:
            terminal.close()

    def shoot(self, name: str, terminal: Terminal, *patterns: str) -> None:
        """Keep the screen as soon as it holds a match of each pattern."""
        wanted = [re.compile(pattern, re.MULTILINE) for pattern in patterns]
        screen = terminal.wait_coloured(
            lambda screen: all(each.search(uncoloured(screen)) for each in wanted), f"{name}: {patterns}"
        )
        self.screens[name] = picture(_SHELL.sub("", screen), terminal.columns)


def typing(stage: Stage) -> None:
    """Completion, what is wrong with a line, and the arguments to come."""
    with stage.console() as console:
        console.type("migrate_set")
        stage.shoot("completion", console, r"^ +migrate_set_speed +\w", r"^ qmon \| running")
        console.press("C-c")
        console.type("migrate_set_parameter max-")
        stage.shoot("values", console, r"^ +max-bandwidth +128 MiB/s: Most")
        console.press("C-c")
        console.type("block_resize d0 12Q")
        stage.shoot("error", console, r"^! block_resize: extraneous characters")


def pasting(stage: Stage) -> None:
    """200 lines, of which one in the middle fails."""
    lines = [f"print/d {number}" for number in range(1, 201)]
    lines[99] = "pirnt/d 100"
    with stage.console() as console:
        console.paste("\n".join(lines) + "\n")
        stage.shoot("paste", console, r"^100 waiting lines were not run\n\(qemu\)$", r"^ qmon \| running")


def events(stage: Stage) -> None:
    """A client that comes while a line is typed, a disk that fails it, and a question about it."""
    with stage.console() as console:
        console.type("nbd_server_start unix:nbd.sock\rnbd_server_add -w d0\r")
        console.wait_for(r"^\(qemu\) nbd_server_add -w d0\n\(qemu\) $")
        fault = '{"drive": "d0", "operation": "write", "error": "EIO"}'
        console.type(f"qmp x-qmon-fault-add {fault}\r")
        console.wait_for(r"fault0")
        console.type("info blo")
        console.wait_for(r"^\(qemu\) info blo")
        with Guest(stage.folder / "nbd.sock", "d0") as guest:
            with contextlib.suppress(OSError):
                guest.write(0, bytes(512))
            patterns = (
                r"^An NBD client .* connected to",
                r"^I/O error: .*",
                r"^qmon: export 'd0': ",
                r"\| 1 client$",
            )
            stage.shoot("event", console, *patterns)
            console.press("C-u")
            console.type("drive_del d0\r")
            stage.shoot("question", console, r"anyway\? \(y/n\)")
            console.type("n")
            console.wait_for(r"^'d0' was not removed\n\(qemu\) $")


def moving(stage: Stage) -> None:
    """A migration with its bar, left to itself by Ctrl-C while a guest reads on; narrow, too."""
    arrived = drive(blank(stage.folder / "arrived.img", 64 * MIB))
    options = [*arrived, "-incoming", f"unix:{stage.folder}/move.sock"]
    for columns, names in ((COLUMNS, ("progress", "background")), (NARROW, ("narrow", ""))):
        with (
            contextlib.closing(Qmon(stage.folder, f"target{columns}", options)) as target,
            stage.console(columns) as console,
        ):
            target.wait_status("paused (inmigrate)")
            console.type("nbd_server_start unix:nbd.sock\rnbd_server_add -w d0\r")
            console.type("migrate_set_parameter max-bandwidth 4M\r")
            console.wait_for(r"^\(qemu\) migrate_set_parameter max-bandwidth 4M\n\(qemu\) $")
            with Guest(stage.folder / "nbd.sock", "d0") as guest:
                first = guest.read(0, 64 * KIB)
                console.wait_for(r"^An NBD client .* connected to .*\n\(qemu\) $")
                console.type("migrate blk unix:move.sock\r")
                stage.shoot(names[0], console, r"\[###.*\] .*MiB/s, \d+ s left")
                console.press("C-c")
                assert guest.read(0, 64 * KIB) == first
                guest.write(MIB, first)
                assert guest.read(MIB, 64 * KIB) == first
                if names[1]:
                    patterns = (
                        r"^The migration continues in the background",
                        r"migration active +\d+%, .* \| 1 client",
                    )
                    stage.shoot(names[1], console, *patterns)
                    assert guest.read(0, 64 * KIB) == first
                console.wait_for(r"^\(qemu\) $")


def plain(stage: Stage) -> None:
    """A terminal that can't move its cursor."""
    with stage.console(TERM="dumb") as console:
        console.type("info status\r")
        console.wait_for(r"^VM status: running\n\(qemu\) $")
        console.type("info stats_\r")
        stage.shoot("dumb", console, r"^Did you mean 'info stats'\?\n\(qemu\)")


SCENES = (typing, pasting, events, moving, plain)


def main() -> None:
    """Play all scenes and write their screens."""
    exit_without("tmux")
    target = Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="qmon-") as folder:
        stage = Stage(Path(folder))
        for scene in SCENES:
            scene(stage)
    for name, screen in stage.screens.items():
        (target / f"{name}.svg").write_text(screen)


if __name__ == "__main__":
    main()
