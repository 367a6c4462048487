from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.editing.highlight import Role, classify
from qmon.hmp.line.reading import read_typed
from qmon.hmp.tables.table import default_tables
from tests.support.fake_target import one_command


def roles(line: str, args_type: str | None = None) -> list[tuple[Role, str]]:
    tables = default_tables() if args_type is None else one_command(args_type)
    return [(role, text) for role, text in classify(read_typed(tables, line)) if text.strip()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "(qemu) migrate -d blk inc tcp:0:4444  # cow",
            [
                (Role.TEXT, "(qemu) "),
                (Role.COMMAND, "migrate"),
                (Role.FLAG, "-d"),
                (Role.WORD, "blk"),
                (Role.WORD, "inc"),
                (Role.TEXT, "tcp:0:4444"),
                (Role.COMMENT, "# cow"),
            ],
        ),
        ("info block", [(Role.COMMAND, "info"), (Role.COMMAND, "block")]),
        ("info blok", [(Role.COMMAND, "info"), (Role.ERROR, "blok")]),
        ("foo bar", [(Role.ERROR, "foo"), (Role.TEXT, " bar")]),
        ('drive_del "d0"', [(Role.COMMAND, "drive_del"), (Role.STRING, '"d0"')]),
        ("migrate_set_speed 1G", [(Role.COMMAND, "migrate_set_speed"), (Role.NUMBER, "1G")]),
        ("migrate_set_speed x y", [(Role.COMMAND, "migrate_set_speed"), (Role.ERROR, "x y")]),
        ("p/x 1 + 2", [(Role.COMMAND, "p"), (Role.FLAG, "/x"), (Role.NUMBER, "1 + 2")]),
        ("migrate -x a", [(Role.COMMAND, "migrate"), (Role.ERROR, "-x a")]),
    ],
)
def test_each_piece_has_its_role(line: str, expected: list[tuple[Role, str]]) -> None:
    assert roles(line) == expected


def test_a_flags_value_and_a_switch_have_roles_of_their_own() -> None:
    assert roles('cmd -f "x" on', "f:-fs,a:b") == [
        (Role.COMMAND, "cmd"),
        (Role.FLAG, "-f"),
        (Role.STRING, '"x"'),
        (Role.WORD, "on"),
    ]


@given(line=st.text() | st.text(st.sampled_from('(qemu) migrate-dblk"#/px1+')))
def test_the_pieces_join_to_the_line(line: str) -> None:
    assert "".join(text for _, text in classify(read_typed(default_tables(), line))) == line
