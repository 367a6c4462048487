"""The table of options and the ids of drives, put to a real QEMU."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from qmon.errors import QmonError
from qmon.program.option_table import OPTIONS, Treatment
from qmon.program.options import parse
from tests.support.peer import QEMU_7, QEMU_10
from tests.support.peers import require
from tests.support.waiting import PATIENCE

QEMU = "qemu-system-x86_64"
NEWER = {"perfmap", "jitdump", "run-with", "shim"}
"""Options that QEMU 10 has and QEMU 7.2 has not."""
PROXMOX = {"id"}
OWN = {
    "c",
    "completion",
    "brief",
    "connect",
    "hx",
    "json",
    "keep-going",
    "make-certs",
    "plain",
    "q",
    "require-tls",
    "script",
    "statedir",
    "trace-qmp",
    "y",
}
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


def run(*argv: str, cwd: Path, stdin: str = "", qemu: Sequence[str] = QEMU_7) -> str:
    done = subprocess.run(
        [*qemu, *argv], cwd=cwd, input=stdin, capture_output=True, text=True, timeout=3 * PATIENCE
    )
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout + done.stderr).replace("\r", "")


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - OWN - PROXMOX))
def test_qemu_takes_an_argument_where_the_table_says_so(name: str, tmp_path: Path) -> None:
    """Of two words that QEMU does not know, an option that takes an argument swallows the first."""
    refused = "-second" if OPTIONS[name].takes_argument else "-first"
    qemu = QEMU_10 if name in NEWER else QEMU_7
    require(qemu[0])
    assert f"{refused}: invalid option" in run(f"-{name}", "-first", "-second", cwd=tmp_path, qemu=qemu)


@pytest.mark.parametrize("qemu", [QEMU_7, QEMU_10], ids=["QEMU 7.2", "QEMU 10"])
def test_the_table_knows_what_qemu_s_help_shows(qemu: Sequence[str], tmp_path: Path) -> None:
    """Each has an effect, is ignored and named, or is refused with a reason."""
    require(qemu[0])
    help_text = run("-h", cwd=tmp_path, qemu=qemu)
    shown = re.findall(r"^--?([A-Za-z][\w-]*)(?: or -([\w-]+))?", help_text, re.MULTILINE)
    names = {name for pair in shown for name in pair if name}
    assert len(names) > 100
    assert names <= OPTIONS.keys()
    assert all(OPTIONS[name].help for name in names if OPTIONS[name].treatment is not Treatment.IGNORED)


@pytest.mark.parametrize("line", LINES)
def test_drives_have_the_ids_that_qemu_gives(line: str, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(1 << 20))
    screen = ["-S", "-nodefaults", "-display", "none", "-monitor", "stdio"]
    said = run(*screen, *line.split(), cwd=tmp_path, stdin="info block\nquit\n")
    ids = re.findall(r"^(\S+) \(#block\d+\): ", said, re.MULTILINE)
    assert ids == [drive.id for drive in parse(line.split()).drives]


@pytest.mark.parametrize(
    "node",
    [
        "raw,file.driver=file,file.filename=a,colour=red",
        "raw,file.driver=file,file.filename=a,cache.direct=maybe",
        "raw,file.driver=file,file.filename=a,cache.direct.x=on",
        "raw,file.driver=file,file.filename=a,discard=x",
        "qcow2,file.driver=file,file.filename=a,l2-cache-size=1M",
        "qcow2,file.driver=file,file.filename=a,overlap-check=x",
        "qcow2,file.driver=file,file.filename=a,overlap-check.template=x",
        "qcow2,file.driver=file,file.filename=a,file.locking=x",
        "qcow2,file=a,file.driver=file",
        "qcow2,file=a",
        "qcow2",
        "nonsense",
        "node-name=x",
        "file,filename=a",
        "file,filename=a,node-name=1",
        "file,filename=a,node-name",
        "file,filename=a,node-name=" + "n" * 32,
        "{",
        "[]",
        '{"driver":"raw"}',
        '{"driver":"raw","file":5}',
        '{"driver":"file","filename":"a"}',
        '{"driver":"file","node-name":"n","filename":"a","colour":1}',
    ],
)
def test_a_node_is_refused_with_qemu_s_words(node: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    theirs = run("-M", "none", "-nodefaults", "-display", "none", "-blockdev", node, cwd=tmp_path)
    with pytest.raises(QmonError) as caught:
        parse(["-blockdev", node])
    assert f"{QEMU}: {caught.value}" in theirs.splitlines()
