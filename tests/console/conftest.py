"""Terminals that are gone when their test is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.terminal import OpenTerminal, Terminal


@pytest.fixture
def open_terminal(tmp_path: Path) -> Iterator[OpenTerminal]:
    """Open a terminal of some size and environment, with nothing running in it."""
    opened: list[Terminal] = []

    def open_one(columns: int = 100, rows: int = 30, **environ: str) -> Terminal:
        opened.append(Terminal(tmp_path / f"tmux{len(opened)}", columns, rows, **environ))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


@pytest.fixture
def console(open_terminal: OpenTerminal, tmp_path: Path) -> Terminal:
    """A terminal with the console in it, at its first prompt."""
    terminal = open_terminal()
    terminal.start(tmp_path)
    return terminal
