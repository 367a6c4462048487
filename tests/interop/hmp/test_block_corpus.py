"""The corpus of lines about drives: QEMU and qmon answer alike, but for a list that must not grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.peer import MORE_NOISE, three_drives
from tests.support.peers import require
from tests.support.two_monitors import TwoMonitors, differing, told

CORPUS = Path(__file__).parent / "corpus"

NOT_YET: dict[str, dict[str, str]] = {
    "block.hmp": {
        "qemu-io d0 help": "commands that suspend, resume or end QEMU are none of a disk",
        'qemu-io d1 "info"': "QEMU prints one half on its terminal and the other on the monitor",
    },
}
"""By file the lines that are answered otherwise, and why."""


def lines_of(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith(";")]


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in sorted(CORPUS.glob("*.hmp"))])
def test_a_corpus_is_answered_as_by_qemu(file: Path, tmp_path: Path) -> None:
    require("qemu-system-x86_64", "qemu-img")
    listed = NOT_YET.get(file.name, {})
    with TwoMonitors(tmp_path, drives=three_drives, noise=MORE_NOISE) as monitors:
        found = differing(monitors, lines_of(file))
    new = {line: answers for line, answers in found.items() if line not in listed}
    assert not new, told(new)
    mended = sorted(set(listed) - set(found))
    assert not mended, f"answered as by QEMU now, so take them off the list: {mended}"
