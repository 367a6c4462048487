"""block_set_io_throttle and what query-block tells of it: the same on QEMU and qmon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.images import MIB, blank
from tests.support.two_qmp import Message, two_qmp

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
    for name in ("0.img", "1.img"):
        blank(folder / name, MIB)


def test_limits_of_a_disk_and_its_group(tmp_path: Path) -> None:
    options = [
        *("-drive", "file=0.img,id=d0,if=none,format=raw"),
        *("-drive", f"file=1.img,id=d1,if=none,format=raw,{GROUP},throttling.group=g"),
    ]
    with two_qmp(tmp_path, files, options) as both:
        assert both.differing(LINES) == ""
