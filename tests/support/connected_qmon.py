"""A qmon that is connected to a program and takes lines one by one, as a script from a pipe."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.processes import CHECKOUT, QMON
from tests.support.waiting import PATIENCE


class ConnectedQmon:
    """``qmon -connect ADDRESS -json -keep-going`` with lines on its standard input."""

    def __init__(self, address: str, folder: Path, options: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*QMON, "-connect", address, "-json", "-keep-going", *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "XDG_STATE_HOME": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> ConnectedQmon:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run(self, line: str) -> dict[str, Any]:
        """Give a line; return its result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def command(self, line: str) -> str:
        """What a line prints, its error included."""
        found = self.run(line)
        return "\n".join(text for text in (found["output"], found.get("error", "")) if text)

    def end(self) -> int:
        """Leave; return the exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            return self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
