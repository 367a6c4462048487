"""The table of options and the ids of drives, put to a real QEMU."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from qmon.program.option_table import OPTIONS
from qmon.program.options import parse
from tests.support.peers import require

QEMU = "qemu-system-x86_64"
OWN = {"c", "hx", "json", "keep-going", "q", "script", "statedir", "trace-qmp", "y"}
LINES = [
    "-drive if=none,file=a -drive if=none,file=b -drive if=none,file=c,index=7",
    "-drive if=none,file=a,bus=1,unit=2 -drive if=none,file=b,media=cdrom",
    "-drive if=virtio,file=a -drive if=virtio,file=b",
    "-drive file=a -drive file=b -drive file=c,media=cdrom",
    "-hda b -drive file=a,index=3",
    "-drive if=none,file=a,id=x -drive if=none,file=b",
    "a -hdb b -cdrom c",
]


@pytest.fixture(autouse=True)
def qemu() -> None:
    require(QEMU)


def run(*argv: str, cwd: Path, stdin: str = "") -> str:
    done = subprocess.run([QEMU, *argv], cwd=cwd, input=stdin, capture_output=True, text=True, timeout=30)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout + done.stderr).replace("\r", "")


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - OWN))
def test_qemu_takes_an_argument_where_the_table_says_so(name: str, tmp_path: Path) -> None:
    """Of two words that QEMU does not know, an option that takes an argument swallows the first."""
    refused = "-second" if OPTIONS[name].takes_argument else "-first"
    assert f"{refused}: invalid option" in run(f"-{name}", "-first", "-second", cwd=tmp_path)


def test_the_table_knows_what_qemu_s_help_shows(tmp_path: Path) -> None:
    shown = re.findall(r"^--?([A-Za-z][\w-]*)", run("-h", cwd=tmp_path), re.MULTILINE)
    assert len(shown) > 100
    assert set(shown) <= OPTIONS.keys()


@pytest.mark.parametrize("line", LINES)
def test_drives_have_the_ids_that_qemu_gives(line: str, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(1 << 20))
    screen = ["-S", "-nodefaults", "-display", "none", "-monitor", "stdio"]
    said = run(*screen, *line.split(), cwd=tmp_path, stdin="info block\nquit\n")
    ids = re.findall(r"^(\S+) \(#block\d+\): ", said, re.MULTILINE)
    assert ids == [drive.id for drive in parse(line.split()).drives]
