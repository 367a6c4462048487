"""The same lines put to a real QEMU and to a qmon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.peer import CLOSED, NOISE, QEMU_7, QMON_HERE, Answer, Pattern, Peer, two_drives

SHOWN_MAX = 8
"""So many lines of an answer are shown at most when a test fails."""


class TwoMonitors:
    """A QEMU and a qmon with the same drives, in ``folder``; both have ended when it is left."""

    def __init__(
        self,
        folder: Path,
        qemu: Sequence[str] = QEMU_7,
        drives: Callable[[Path], list[str]] = two_drives,
        noise: Sequence[Pattern] = NOISE,
    ) -> None:
        self.theirs = Peer(qemu, folder / "qemu", drives, noise)
        try:
            self.ours = Peer(QMON_HERE, folder / "qmon", drives, noise)
        except BaseException:
            self.theirs.close()
            raise

    def __enter__(self) -> TwoMonitors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.theirs.close()
        self.ours.close()
        assert "Traceback" not in (log := self.ours.log()), log

    def lines(self, line: str) -> tuple[Answer, Answer]:
        """QEMU's answer and qmon's. Both start anew when the line ended one of them."""
        answers = self.theirs.lines(line), self.ours.lines(line)
        if CLOSED in answers:
            self.start_again()
        return answers

    def start_again(self) -> None:
        self.theirs.start_again()
        self.ours.start_again()


def differing(monitors: TwoMonitors, lines: Sequence[str]) -> dict[str, tuple[Answer, Answer]]:
    """The lines that the two answer differently, with QEMU's answer and qmon's."""
    asked = [(line, *monitors.lines(line)) for line in lines]
    return {line: (theirs, ours) for line, theirs, ours in asked if theirs != ours}


def told(differences: dict[str, tuple[Answer, Answer]]) -> str:
    """The differences as text."""
    parts = []
    for line, (theirs, ours) in differences.items():
        rows = [
            f"  {name}: {row}"
            for name, answer in (("QEMU", theirs), ("qmon", ours))
            for row in _shown(answer)
        ]
        parts.append("\n".join([f"(qemu) {line}", *rows]))
    return "\n".join(parts)


def _shown(answer: Answer) -> list[str]:
    more = len(answer) - SHOWN_MAX
    return [*answer[:SHOWN_MAX], *([f"... {more} lines more"] if more > 0 else [])] or ["(nothing)"]
