"""What has been done to drives is told of the same nodes as by QEMU, in the same order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB, drive, filled
from tests.support.peers import require
from tests.support.processes import Lab
from tests.support.qcow2_images import run
from tests.support.qmp_client import QmpClient
from tests.support.two_monitors import TwoMonitors

Stats = dict[str, Any]


def asked(path: Path, **arguments: bool) -> list[Stats]:
    with QmpClient(path) as client:
        stats: list[Stats] = client.run("query-blockstats", arguments)
        return stats


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
                each.command(line)
            told.append(comparable(asked(each.qmp_path, **arguments), {}))
    assert told[1] == told[0]


def test_what_is_given_back_to_the_file_system_is_counted(lab: Lab) -> None:
    qmon = lab.start("one", *drive(filled(lab.folder / "d0.img", MIB)))
    qmon.command('qemu-io d0 "discard 64k 128k"')
    qmon.command('qemu-io d0 "discard 512k 4k"')
    (entry,) = qmon.qmp("query-blockstats")
    assert entry["parent"]["driver-specific"] == {
        "driver": "file",
        "discard-nb-ok": 2,
        "discard-nb-failed": 0,
        "discard-bytes-ok": 132 << 10,
    }
