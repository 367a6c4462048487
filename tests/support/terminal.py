"""A real terminal for a test: a tmux server of its own with one window."""

from __future__ import annotations

import contextlib
import locale
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.peers import lack, require
from tests.support.waiting import PATIENCE, eventually

_ROOT = Path(__file__).parents[2]

_TOOLBAR = re.compile(r"\n(?: \S+ \| [a-z]+(?: \|.*)?|! .*)?\Z")

_LOCALE = "C.UTF-8"
"""Without one of UTF-8 tmux does not start."""


def _has_locale(name: str) -> bool:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_CTYPE, before)
    return True


class Terminal:
    """A window in which a shell waits for the program to be started, and stays after it has ended."""

    def __init__(self, socket: Path, columns: int = 100, rows: int = 30, **environ: str) -> None:
        require("tmux")
        if not _has_locale(_LOCALE):
            lack(f"the locale {_LOCALE}")
        self._socket = socket
        self.columns = columns
        # what the tests are run from must not colour what they see
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX")}
        self._environ = {**clean, "LC_ALL": _LOCALE}
        setting = [f"{name}={value}" for name, value in {"PS1": "$ ", **environ}.items()]
        shell = shlex.join(["env", "-C", str(_ROOT), *setting, "bash", "--norc", "--noprofile"])
        self._tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), shell)
        self.wait_for(r"^\$ $")

    def start(self, folder: Path) -> None:
        """Run the test's program, and wait for its prompt."""
        self.type(f"clear; {sys.executable} -m tests.support.console_program {folder}\r")
        self.wait_for(r"^hello\n(?:.*\n)*\(qemu\) $")

    def type(self, text: str) -> None:
        """Type text; a ``\\r`` is Enter."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names, ``C-c`` or ``Tab``."""
        self._tmux("send-keys", *keys)

    def paste(self, text: str, *, bracketed: bool = True) -> None:
        self._tmux("load-buffer", "-", text=text)
        self._tmux("paste-buffer", *(["-p"] if bracketed else []))

    def record(self, path: Path) -> None:
        """From now on write what programs send to the terminal to a file, as it is."""
        self._tmux("pipe-pane", f"cat >> {shlex.quote(str(path))}")
        eventually(path.exists, "it is recorded")

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self) -> str:
        """What is to be seen but the toolbar, without the empty rows below; a prompt keeps its space."""
        rows = _TOOLBAR.sub("", self.whole())
        return re.sub(r"^(\(qemu\)|\$)$", r"\1 ", rows, flags=re.MULTILINE)

    def whole(self) -> str:
        """The screen with the toolbar, without the empty rows below."""
        return self._tmux("capture-pane", "-p").rstrip("\n")

    def coloured(self) -> str:
        """The screen with the toolbar, with escape sequences and the spaces at the ends of rows."""
        return self._tmux("capture-pane", "-p", "-e", "-N").rstrip("\n")

    def wait_for(self, pattern: str) -> str:
        """Wait until the screen holds a match (``^`` and ``$`` are a row's ends), and return the screen."""
        wanted = re.compile(pattern, re.MULTILINE)
        return self.wait_until(lambda screen: wanted.search(screen) is not None, pattern)

    def wait_for_end(self, text: str) -> str:
        """Wait until the screen's last rows are these, and return it."""
        return self.wait_until(lambda screen: ("\n" + screen).endswith("\n" + text), text)

    def wait_until(self, holds: Callable[[str], bool], wanted: str) -> str:
        return self._wait(self.screen, holds, wanted)

    def wait_whole(self, holds: Callable[[str], bool], wanted: str) -> str:
        """Wait for something of the screen with the toolbar."""
        return self._wait(self.whole, holds, wanted)

    def wait_coloured(self, holds: Callable[[str], bool], wanted: str) -> str:
        """The same, with escape sequences."""
        return self._wait(self.coloured, holds, wanted)

    def _wait(self, look: Callable[[], str], holds: Callable[[str], bool], wanted: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while not holds(screen := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"never seen: {wanted}\non the screen:\n{screen}")
            time.sleep(0.05)  # each look is a process
        return screen

    def close(self) -> None:
        """End the server and what runs in its window, if the shell has not ended already."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")

    def _tmux(self, *words: str, text: str | None = None) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words],
            input=text,
            env=self._environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        return done.stdout


OpenTerminal = Callable[..., Terminal]
