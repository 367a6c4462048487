"""The same lines to a QEMU's own monitor and to a connected qmon: the answers are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.connected_qmon import ConnectedQmon
from tests.support.peer import MORE_NOISE, Peer, three_drives

CORPUS = Path(__file__).parent / "corpus"


CONSOLES = frozenset(("help migrate", "? migrate", "info migrate_parameters"))
"""Lines that a console on a QMP monitor answers otherwise: it moves guests with their disks."""


def lines_of(name: str, kind: str) -> list[str]:
    lines = (CORPUS / f"{name}.hmp").read_text().splitlines()
    ours = CONSOLES if kind == "qmp" else ()
    return [line for line in lines if line and not line.startswith(";") and line not in ours]


def address_of(peer: Peer, kind: str) -> str:
    """The address of a program's QMP monitor, or of its human monitor, which is let go for it."""
    if kind == "qmp":
        return f"unix:{peer.qmp_path}"
    peer.monitor.close()
    return f"hmp:unix:{peer.folder / 'm'}"


@pytest.mark.parametrize("kind", ["qmp", "hmp"])
@pytest.mark.parametrize("name", ["block", "expressions", "grammar", "migration"])
def test_each_line_of_a_corpus_is_answered_as_by_qemu(
    program: Sequence[str], tmp_path: Path, name: str, kind: str
) -> None:
    with (
        Peer(program, tmp_path / "theirs", three_drives, MORE_NOISE) as theirs,
        Peer(program, tmp_path / "ours", three_drives, MORE_NOISE) as other,
        ConnectedQmon(address_of(other, kind), tmp_path) as ours,
    ):
        lines = lines_of(name, kind)
        wanted = {f"{number}: {line}": theirs.command(line) for number, line in enumerate(lines)}
        found = {
            f"{number}: {line}": other.with_what_it_printed(line, ours.command(line))
            for number, line in enumerate(lines)
        }
        assert found == wanted
        assert ours.end() == 1  # some lines fail
