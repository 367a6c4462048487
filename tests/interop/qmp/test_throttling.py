"""Limits of drives and groups, and what is told of them: the same on QEMU and qmon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB, blank
from tests.support.two_qmp import Message, TwoQmp, two_qmp

RATES = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
ALL_KINDS = {
    f"{rate}{end}": value + number
    for number, rate in enumerate(("bps_rd", "bps_wr", "iops_rd", "iops_wr"))
    for end, value in (("", 1000), ("_max", 2000), ("_max_length", 3))
}
GROUP = "throttling.bps-total=1000,throttling.bps-total-max=5000,throttling.bps-total-max-length=3"


def limit(**arguments: Any) -> Message:
    named = {"device": "d0", **dict.fromkeys(RATES, 0), **arguments}
    return "block_set_io_throttle", {name: value for name, value in named.items() if value is not None}


SHOWN: Message = ("query-block",)

LINES: list[Message] = [
    SHOWN,
    limit(bps=100),
    SHOWN,
    limit(bps=100, bps_rd=1),
    limit(iops=5, iops_wr=1),
    limit(bps=5, bps_max=10, bps_rd_max=10),
    limit(bps=-1),
    limit(bps=10**15),
    limit(bps=10**15 + 1),
    limit(bps=1000, bps_max=100),
    limit(bps_max=100),
    limit(bps_rd=1, bps_max=5),
    limit(bps=1000, bps_max=2000, bps_max_length=0),
    limit(bps=1000, bps_max=2000, bps_max_length=-1),
    limit(bps=1000, bps_max=2000, bps_max_length=10**15),
    limit(bps=1000, bps_max=2000, bps_max_length=1 << 32),
    limit(bps=1000, bps_max_length=3),
    limit(bps=1000, bps_max=2000, bps_max_length=30),
    SHOWN,
    limit(**ALL_KINDS, iops_size=4096, group="both"),
    SHOWN,
    limit(iops=100, iops_max=150, iops_max_length=60),
    SHOWN,
    limit(bps=3, device="d1"),
    SHOWN,
    limit(bps=3, device="d1", group="both"),
    SHOWN,
    limit(),
    SHOWN,
    limit(device="d1"),
    SHOWN,
    limit(iops_size=4096),
    limit(bps=1, group="a b"),
    limit(bps=1, group=""),
    limit(device=None),
    limit(id="d0"),
    limit(device=None, id="d0"),
    limit(device=None, id="/machine/peripheral/d0"),
    limit(device="d2"),
    limit(bps=1.5),
    limit(bps="1"),
    limit(bps=None),
    limit(colour=1),
]


def files(folder: Path) -> None:
    for number in range(4):
        blank(folder / f"{number}.img", MIB)


def line(text: str) -> Message:
    return "human-monitor-command", {"command-line": text}


def added(id: str, options: str) -> Message:
    image = {"a": 2, "b": 3}[id]
    return line(f"drive_add 0 if=none,id={id},file={image}.img,format=raw{options}")


INFO = line("info block -v")

OF_NEW_DRIVES = """
bps=1000
bps_rd=5,iops_wr=6
bps=1,bps_rd=1
bps_max=5
bps=10,bps_max=5
bps=10,bps_max=50,throttling.bps-total-max-length=4
bps_max_length=5
iops=10,iops_max=50,iops_size=512
iops_size=512
iops=5,iops_rd_max=5
iops_rd=5,iops_rd_max=5,iops_wr=3,iops_wr_max=9,iops_size=1
throttling.iops-total=7,throttling.iops-size=4096
throttling.iops-total=-7
throttling.iops-total=1000000000000001
throttling.iops-total=1k
throttling.iops-total=1.5
throttling.iops-total=
throttling.bps-total=1,throttling.bps-total-max=2,throttling.bps-total-max-length=0
throttling.bps-total=1,throttling.bps-total-max=2,throttling.bps-total-max-length=4294967296
throttling.bps-total=1,throttling.bps-total-max=2,throttling.bps-total-max-length=1000000000000000
throttling.iops-total=5,iops=6
throttling.iops-total=5,iops=5
throttling.nosuch=5
throttling.group=x
throttling.group=,iops=5
throttling.group=a\\x20b,iops=5
group=x,iops=5
readonly=on,bps_wr=5
bps=0x10
bps=010
bps=1M
bps=18446744073709551615
bps=18446744073709551616
bps=5\\x20
""".split()

GROUPS: list[Message] = [
    added("a", ",iops=10,group=g"),
    added("b", ",iops=20,group=g"),
    SHOWN,
    INFO,
    limit(device="a", iops=5),
    SHOWN,
    limit(device="a"),
    SHOWN,
    limit(device="b", iops=7, group="h"),
    limit(device="a", iops=9),
    SHOWN,
    limit(device="a", iops=8, group="h"),
    SHOWN,
    limit(device="b", iops=8, group="a"),
    limit(device="a", iops=6, group="b"),
    SHOWN,
    limit(device="a"),
    limit(device="a", iops=4),
    SHOWN,
    limit(device="a", iops=4, group=""),
    SHOWN,
    line("drive_del b"),
    limit(device="a", group="h", bps=3),
    SHOWN,
    line("drive_del a"),
    added("a", ",group=g"),
    SHOWN,
    limit(device="a", iops=5),
    SHOWN,
    line("drive_del a"),
    line("block_set_io_throttle d0 1 0 0 0 0 0"),
    INFO,
    line("block_set_io_throttle d0 1 1 0 0 0 0"),
    line("block_set_io_throttle d0 1"),
    line("block_set_io_throttle nosuch 1 0 0 0 0 0"),
    line("block_set_io_throttle d0 0 0 0 0 0 0"),
    INFO,
    limit(iops=5, iops_size=-1),
    limit(iops=5, iops_size=10**15),
    SHOWN,
    limit(iops=5, iops_size=10**15 + 1),
    limit(iops=5, iops_size=1 << 63),
    limit(iops=5, bps_max=0, bps_max_length=1),
    limit(iops=5, bps_max=0, bps_max_length=0),
    limit(iops=5, bps_max=0, bps_max_length=3),
    limit(iops=True),
    limit(device=5, iops=1),
    limit(iops=1, group=5),
    ("eject", {"device": "d0", "force": True}),
    limit(iops=3),
]


def group(id: str, limits: Any = None, **more: Any) -> Message:
    given = {} if limits is None else {"limits": limits}
    return "object-add", {"qom-type": "throttle-group", "id": id, **given, **more}


def deleted(id: str) -> Message:
    return "object-del", {"id": id}


def filtered(group: str, file: str) -> Message:
    return "blockdev-add", {"driver": "throttle", "node-name": "t", "throttle-group": group, "file": file}


FILE = {"driver": "raw", "node-name": "r", "file": {"driver": "file", "filename": "2.img", "node-name": "f"}}

OBJECTS: list[Message] = [
    group("g"),
    group("g"),
    group("g2", {"iops-total": 5}),
    *(
        group("g3", limits)
        for limits in (
            {"iops-total": 5, "iops-read": 1},
            {"nosuch": 5},
            {"iops-total": "x"},
            {"iops-total": -1},
            {"iops-total": 10**15 + 1},
            {"iops-total": 5, "iops-total-max": 3},
            {"iops-total-max-length": 0},
            {"iops-size": 5},
            {"iops-total": 1, "iops-size": -5},
            5,
            {},
        )
    ),
    group("g4", **{"x-iops-total": 4}),
    group("g5", {"iops-total": 7}, **{"x-iops-total": 4}),
    group("g6", **{"x-nosuch": 4}),
    ("object-add", {"qom-type": "throttle-group"}),
    ("blockdev-add", FILE),
    filtered("nosuch", "r"),
    filtered("g2", "nosuch"),
    filtered("d0", "r"),
    filtered("g2", "r"),
    ("query-named-block-nodes",),
    deleted("g2"),
    limit(iops=9, group="g2"),
    deleted("g2"),
    ("query-named-block-nodes",),
    limit(),
    deleted("g2"),
    ("blockdev-del", {"node-name": "r"}),
    ("blockdev-del", {"node-name": "t"}),
    ("blockdev-del", {"node-name": "r"}),
    deleted("g2"),
    deleted("g2"),
    limit(iops=9, group="of-drives"),
    SHOWN,
    group("of-drives"),
    group("of-drives", {"iops-total": 3}),
    limit(),
    group("of-drives", {"iops-total": 3}),
    limit(iops=9, group="of-drives"),
    SHOWN,
    deleted("of-drives"),
    limit(),
    deleted("of-drives"),
    added("b", ",iops=5,throttling.group=g4"),
    SHOWN,
    deleted("g4"),
    line("drive_del b"),
    deleted("g4"),
]


@pytest.fixture
def both(tmp_path: Path) -> Iterator[TwoQmp]:
    drives = [f"file={number}.img,id=d{number},if=none,format=raw" for number in (0, 1)]
    with two_qmp(tmp_path, files, [word for each in drives for word in ("-drive", each)]) as both:
        yield both


def test_limits_of_new_drives(both: TwoQmp) -> None:
    lines = [
        each
        for options in OF_NEW_DRIVES
        for each in (added("a", "," + options.replace("\\x20", " ")), SHOWN, INFO, line("drive_del a"))
    ]
    assert both.differing(lines) == ""


def test_groups_that_drives_make_join_and_leave(both: TwoQmp) -> None:
    assert both.differing(GROUPS) == ""


def test_groups_that_are_objects(both: TwoQmp) -> None:
    assert both.differing(OBJECTS) == ""


def test_limits_of_a_disk_and_its_group(tmp_path: Path) -> None:
    options = [
        *("-drive", "file=0.img,id=d0,if=none,format=raw"),
        *("-drive", f"file=1.img,id=d1,if=none,format=raw,{GROUP},throttling.group=g"),
    ]
    with two_qmp(tmp_path, files, options) as both:
        assert both.differing(LINES) == ""
