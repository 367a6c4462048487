"""Every command that a QEMU lists is answered to a connected qmon as at that QEMU's own monitor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.support.connected_qmon import ConnectedQmon
from tests.support.listed_commands import all_lines, listings
from tests.support.peer import MORE_NOISE, QEMU_10, Pattern, Peer, three_drives

NOISE: tuple[Pattern, ...] = (
    *MORE_NOISE,
    (re.compile(r"(thread[_-]id=)\d+"), r"\1N"),
    (re.compile(r"0x[0-9a-f]{12,}"), "0xN"),
    (re.compile(r"(?m)^(char\w*|compat_monitor\d+|parallel\d|qmp): .*"), r"\1: ..."),
)

ENDS_IT = ("quit", "q")
ENDS_QEMU_10 = ("info qdm", "device_add ?")
"""Beginnings of lines that load every module: the QEMU 10 of the tests dies of those of another build."""

HIDES = "a script's errors hide what may be a secret"
BY_ADDRESS = "QEMU lists them in the order of their addresses in its memory"

ON_PURPOSE = {
    "info history": "each console has its own",
    "info chardev": "each connection is a character device",
    "info migrate_parameters": "the console adds those that it keeps itself",
    "info mtree": BY_ADDRESS,
    "qom-set -x": HIDES,
    "set_password nosuch nosuch": HIDES,
}


def test_every_command_is_answered_as_by_qemu(program: Sequence[str], tmp_path: Path) -> None:
    with (
        Peer(program, tmp_path / "theirs", three_drives, NOISE) as theirs,
        Peer(program, tmp_path / "ours", three_drives, NOISE) as other,
        ConnectedQmon(f"unix:{other.qmp_path}", tmp_path) as ours,
    ):
        lines = [
            line
            for line in all_lines(listings(theirs))
            if line.strip() not in ENDS_IT and not (program == QEMU_10 and line.startswith(ENDS_QEMU_10))
        ]
        assert len(lines) > 1000
        differing = {}
        for line in lines:
            wanted = theirs.command(line)
            found = other.with_what_it_printed(line, ours.command(line))
            if wanted != found and line not in ON_PURPOSE:
                differing[line] = (wanted, found)
        assert not differing, "\n".join(
            f"{line!r}\n  {each[0]!r}\n  {each[1]!r}" for line, each in differing.items()
        )
