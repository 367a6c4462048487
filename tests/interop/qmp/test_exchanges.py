"""QEMU 7.2's recorded exchanges: qmon answers each request alike, but for a short list with reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.qmp.record import EXCHANGES
from tests.interop.qmp.replay import Found, replay, told
from tests.support.exchanges import requests_of
from tests.support.peers import require


@dataclass(frozen=True, slots=True)
class Different:
    """Requests to which qmon's messages differ in a member, and why. Both are regular expressions."""

    file: str
    request: str
    path: str
    why: str

    def covers(self, file: Path, found: Found) -> bool:
        request, path, *_ = found
        return (
            file.stem == self.file
            and re.match(self.request, request) is not None
            and re.search(self.path, path) is not None
        )


_ABSENT = "a command for a part that qmon lacks"
_ORDER = "qmon answers before it opens a file or takes a snapshot, QEMU after it"
_NO_STATE = "qmon has no machine state to save"
_DISKS = "a node that nothing uses is a disk in qmon: it lists it, without a device"

DIFFERENT = (
    Different("bitmaps", "human-monitor-command.*qemu-io", r"\.return$", "QEMU prints it on its terminal"),
    Different("chardevs", "query-chardev-backends", r"\.return$", "qmon has fewer backends"),
    Different("chardevs", "query-chardev$", r"\.return\[", "QEMU lists devices in its object tree's order"),
    Different("errors", "set_link|add_client|set_password|expire_password", r"\.error\.", _ABSENT),
    Different("errors", "query-acpi-ospm-status", r"\.error\.", _ABSENT),
    Different("errors", "query-events", r"\.error\.", "QEMU dropped it in 6.0; qmon has it"),
    Different("errors", "query-tpm-models", r"\.return$", "qmon has no TPM"),
    Different("exports", "query-block-exports", r"\.x-qmon-[a-z]+$", "qmon tells more"),
    Different("jobs", 'blockdev-create .*"c1"', r"\[[234]\]\.", _ORDER),
    Different(
        "jobs", 'blockdev-create .*"c14"', r"\.error\.desc$", "of two unexpected members, another is named"
    ),
    Different("jobs", 'snapshot-save .*"s0"', r"\[[234]\]\.", _ORDER),
    Different("jobs", "query-named-block-nodes", r"vm-state-size|virtual-size", _NO_STATE),
    Different(
        "jobs", 'snapshot-load .*"s8"', "", "the machine runs on if a load fails before it changed a disk"
    ),
    Different("lacking", 'blockdev-add .*"offset"', r"\.(return|error)", "qmon has no window of a raw file"),
    Different("lacking", "blockdev-add .*null-co", r"\.(return|error)", "qmon has no driver without a file"),
    Different("lacking", "blockdev-(insert|remove)-medium", r"\.error\.", "they need a guest's device"),
    Different("lacking", "block-latency-histogram-set", r"\.error\.", "qmon has no histograms"),
    Different("migration", "client_migrate_info|x-colo-lost-heartbeat", r"\.error\.", _ABSENT),
    Different("migration", "query-xen-replication-status", r"\.(return|error)$", _ABSENT),
    Different("migration", '.*"max-bandwidth": -1', r"\.(return|error)$", "QEMU takes -1 as 2^64 - 1"),
    Different("migration", "query-migrate-parameters", r"\.max-bandwidth$", "QEMU took -1"),
    Different(
        "migration", "query-migrate-parameters", r"multifd-z(lib|std)-level$", "QEMU 7.2 drops the value"
    ),
    Different("migration", "query-migrate$", r"\.status$", "a refused migrate starts none in qmon"),
    Different("nodes", "query-named-block-nodes", r"\.cache\.no-flush$", "qmon never leaves out a flush"),
    Different(
        "nodes", 'blockdev-reopen .*"file": "q0"', r"\.(return|error)$", "the file below can't be exchanged"
    ),
    Different("nodes", "query-block$", r"\.return$", _DISKS),
    Different("snapshots", "query-block$", r"\.return$", _DISKS),
)


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.stem) for file in sorted(EXCHANGES.glob("*.qmp"))]
)
def test_recorded_exchanges_come_out_alike(file: Path, tmp_path: Path) -> None:
    require("qemu-img")
    found = list(replay(file, tmp_path))
    listed = [each for each in DIFFERENT if each.file == file.stem]
    new = [each for each in found if not any(row.covers(file, each) for row in listed)]
    assert not new, "\n".join(map(told, new))
    mended = [row for row in listed if not any(row.covers(file, each) for each in found)]
    assert not mended, f"alike now, so take them off the list: {mended}"


def test_there_are_hundreds_of_exchanges() -> None:
    assert sum(len(requests_of(file)) for file in EXCHANGES.glob("*.qmp")) >= 500
