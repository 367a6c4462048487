"""Every command that a QEMU lists is listed here, and what a wrong use of it prints is the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.listed_commands import all_lines, listings
from tests.support.not_imitated import is_not_imitated
from tests.support.peer import QEMU_10, Peer
from tests.support.peers import require
from tests.support.two_monitors import TwoMonitors, differing, told

OWN_SENTENCES = "a listing's sentences are qmon's own; the syntax is compared apart from them"
OWN_VERSION = "qmon tells its own version"
OWN_FLAG = "qmon's takes -f, to run with disks that were handed over"
NO_MODELS = "qmon has no device models to list"

ON_PURPOSE: dict[str, str] = {
    "help": OWN_SENTENCES,
    "?": OWN_SENTENCES,
    "info": OWN_SENTENCES,
    "cont -x": OWN_FLAG,
    "c -x": OWN_FLAG,
    "log nosuch": OWN_SENTENCES,
    "log -x": OWN_SENTENCES,
    'log ""': OWN_SENTENCES,
    "log 0": OWN_SENTENCES,
    "info migrate -x": "qmon's takes -a, as that of QEMU 10.1",
    "info version": OWN_VERSION,
    "info qdm": NO_MODELS,
    "info jit": "qmon has no translator of guest code, and says so as QEMU does under another accelerator",
    "info chardev": "QEMU lists them in the order of a hash table",
    "info status": "QEMU tells that a line has switched single-stepping on",
    "info trace-events": "the events that can be traced are each program's own",
}
"""Lines that qmon answers otherwise than QEMU 7.2, with the reason."""

OLDER = "a later QEMU dropped it"
NEWER = "QEMU 7.2 does not have it yet"
OTHER_BUILD = "in QEMU's tables, but only for other machines or with other options of the build"
OUR_OWN = "qmon's own"

ONLY_OURS = dict.fromkeys(
    [
        "info nbd",
        "migrate_report",
        *"migrate_resolve events exit include keys qmp time transcript wait watch yank".split(),
    ],
    OUR_OWN,
)

ONLY_OURS_7: dict[str, str] = {
    **ONLY_OURS,
    "migrate_set_speed": OLDER,
    "migrate_set_downtime": OLDER,
    "one-insn-per-tb": NEWER,
    "xen-event-inject": NEWER,
    "xen-event-list": NEWER,
    "trace-file": OTHER_BUILD,
    "dump-skeys": OTHER_BUILD,
    "migration_mode": OTHER_BUILD,
    "info cryptodev": NEWER,
    "info via": OTHER_BUILD,
    "info skeys": OTHER_BUILD,
    "info cmma": OTHER_BUILD,
}
"""Commands that QEMU 7.2 does not list, with the reason."""

ONLY_OURS_10: dict[str, str] = {
    **ONLY_OURS,
    "migrate_set_speed": OLDER,
    "migrate_set_downtime": OLDER,
    "singlestep": OLDER,
    "trace-file": OTHER_BUILD,
    "dump-skeys": OTHER_BUILD,
    "migration_mode": OTHER_BUILD,
    "info profile": OLDER,
    "info rdma": OLDER,
    "info via": OTHER_BUILD,
    "info skeys": OTHER_BUILD,
    "info cmma": OTHER_BUILD,
}
"""Commands that QEMU 10 does not list, with the reason."""

AS_7 = "written as QEMU 7.2 writes it"
AS_10_1 = "written as QEMU 10.1 writes it"

OTHER_SYNTAX_7: dict[str, str] = {
    "cont|c": OWN_FLAG,
    "info migrate": AS_10_1,
    "nbd_server_start": OWN_FLAG,
}
"""Commands whose arguments QEMU 7.2 writes otherwise, with the reason."""

OTHER_SYNTAX_10: dict[str, str] = {
    "cont|c": OWN_FLAG,
    "dump-guest-memory": AS_7,
    "migrate": AS_7,
    "nbd_server_start": OWN_FLAG,
    "watchdog_action": AS_7,
    "info migrate": AS_10_1,
    "info qtree": AS_7,
}
"""Commands whose arguments QEMU 10 writes otherwise, with the reason."""


@pytest.fixture(scope="module")
def monitors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMonitors]:
    require("qemu-system-x86_64")
    with TwoMonitors(tmp_path_factory.mktemp("every")) as monitors:
        yield monitors


def test_every_command_answers_as_qemu_does(monitors: TwoMonitors) -> None:
    lines = list(all_lines(listings(monitors.theirs)))
    assert len(lines) > 1000
    monitors.start_again()  # with the same history, and QEMU without the modules that some lines have it load
    differences = differing(monitors, lines)
    unexpected = {
        line: (theirs, ours)
        for line, (theirs, ours) in differences.items()
        if line not in ON_PURPOSE and not is_not_imitated(line, ours)
    }
    assert not unexpected, told(unexpected)
    agreeing = [line for line in ON_PURPOSE if line not in differences]
    assert not agreeing, "qmon and QEMU agree after all"


def test_the_commands_and_their_syntax_are_those_of_qemu_7(monitors: TwoMonitors) -> None:
    same_listing(listings(monitors.theirs), listings(monitors.ours), ONLY_OURS_7, OTHER_SYNTAX_7)


def test_the_commands_and_their_syntax_are_those_of_qemu_10(monitors: TwoMonitors, tmp_path: Path) -> None:
    require(*QEMU_10[:1])
    with Peer(QEMU_10, tmp_path / "qemu10") as theirs:
        same_listing(listings(theirs), listings(monitors.ours), ONLY_OURS_10, OTHER_SYNTAX_10)


def same_listing(
    theirs: dict[str, str], ours: dict[str, str], only_ours: Mapping[str, str], other: Mapping[str, str]
) -> None:
    assert [name for name in ours if name not in only_ours] == list(theirs)
    assert {name for name in ours if name not in theirs} == set(only_ours)
    assert {name for name in theirs if theirs[name] != ours[name]} == set(other)
