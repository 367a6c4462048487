"""What has been done to drives is told of the same nodes as by QEMU, in the same order."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB, drive, filled
from tests.support.peers import require
from tests.support.processes import Lab
from tests.support.qcow2_images import run
from tests.support.two_monitors import TwoMonitors
from tests.support.waiting import PATIENCE

Stats = dict[str, Any]


def asked(path: Path, **arguments: bool) -> list[Stats]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        file = sock.makefile("rw")
        answer: Stats = {}
        for command, words in (("qmp_capabilities", {}), ("query-blockstats", arguments)):
            file.write(json.dumps({"execute": command, "arguments": words}) + "\n")
            file.flush()
            while "return" not in (answer := json.loads(file.readline())):
                assert "error" not in answer, answer
        result: list[Stats] = answer["return"]
        return result


def comparable(entry: Any, names: dict[str, str]) -> Any:
    """With nodes called by the order in which they are met, and all figures alike."""
    if isinstance(entry, list):
        return [comparable(each, names) for each in entry]
    if isinstance(entry, dict):
        return {key: comparable(value, names) for key, value in sorted(entry.items())}
    if isinstance(entry, str) and entry.startswith("#block"):
        return names.setdefault(entry, f"#{len(names)}")
    return "N" if isinstance(entry, int) and not isinstance(entry, bool) else entry


@pytest.mark.parametrize("arguments", [{}, {"query-nodes": False}, {"query-nodes": True}])
def test_the_same_nodes_are_told_as_by_qemu(arguments: dict[str, bool], tmp_path: Path) -> None:
    require("qemu-system-x86_64", "qemu-img")
    with TwoMonitors(tmp_path) as both:
        told = []
        for each in (both.theirs, both.ours):
            for name, backing in (("mid", "base"), ("top", "mid")):
                words = ["create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "qcow2"]
                run(*words, each.folder / name, "1M")
            run("create", "-q", "-f", "qcow2", each.folder / "base", "1M")
            for line in (
                "drive_add 0 if=none,id=d1,file=top,node-name=given",
                "drive_add 0 if=none,id=empty",
                "drive_del ro",
                "snapshot_blkdev d0 over",
                "snapshot_blkdev d1 over1",
            ):
                each.ask(line)
            told.append(comparable(asked(each.folder / "qmp", **arguments), {}))
    assert told[1] == told[0]


def test_what_is_given_back_to_the_file_system_is_counted(lab: Lab) -> None:
    qmon = lab.start("one", *drive(filled(lab.folder / "d0.img", MIB)))
    qmon.command('qemu-io d0 "discard 64k 128k"')
    qmon.command('qemu-io d0 "discard 512k 4k"')
    (entry,) = asked(qmon.qmp)
    assert entry["parent"]["driver-specific"] == {
        "driver": "file",
        "discard-nb-ok": 2,
        "discard-nb-failed": 0,
        "discard-bytes-ok": 132 << 10,
    }
