"""What the console's tests look for on the screen, and what makes its machine do something."""

from __future__ import annotations

from pathlib import Path

from tests.support.terminal import Terminal

STATUS = "VM status: running"
RAN = f"(qemu) info status\n{STATUS}\n"
UNKNOWN = "(qemu) foo\nunknown command: 'foo'\nType 'help' to find a command\n"


def trigger(folder: Path, name: str) -> None:
    (folder / name).touch()


def seen(terminal: Terminal, text: str) -> None:
    terminal.wait_whole(lambda screen: text in screen, text)
