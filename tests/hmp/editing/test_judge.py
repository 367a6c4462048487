"""What is said of a line while it is typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.editing.highlight import Role, classify
from qmon.hmp.editing.judge import complaint
from qmon.hmp.line.reading import read_line, read_typed
from qmon.hmp.tables.table import default_tables

TABLES = default_tables()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("xyz", "unknown command: 'xyz'"),
        ("migratee", "unknown command: 'migratee'"),
        ("migr ", "unknown command: 'migr'"),
        ("info blok", "unknown command: 'info blok'"),
        ("(qemu) info blok", "unknown command: 'info blok'"),
        ("migrate -q", "migrate: unsupported option -q"),
        ("stop now", "stop|s: extraneous characters at the end of line"),
        ("print 1+a", "invalid char 'a' in expression"),
        ("print/d (1+2))", "print|p: extraneous characters at the end of line"),
        ("print/q", "invalid char in format: 'q'"),
        ("block_resize d0 10Z", "block_resize: extraneous characters at the end of line"),
        ('block_resize "d\\q', "block_resize: block device name expected"),
        ("set_link a onx", "Expected 'on' or 'off'"),
        ("migrate # where to?", "migrate: string expected"),
    ],
)
def test_what_can_not_become_good_is_said_in_qemus_words(line: str, said: str) -> None:
    assert complaint(read_typed(TABLES, line)) == said


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "# note",
        "mig",
        "migrate",
        "migrate -",
        "migrate -d ",
        "info",
        "info ",
        "info bl",
        "print",
        "print ",
        "print/",
        "print/x",
        "print 0x",
        "print 1+",
        "print ((1+2",
        "print '",
        "print 'A",
        'block_resize "d0',
        "block_resize d0 ",
        "block_resize d0 1.",
        "set_link a o",
        "set_link a of",
        "stop # now",
        "(qemu) sto",
    ],
)
def test_what_further_typing_may_cure_is_no_error(line: str) -> None:
    assert complaint(read_typed(TABLES, line)) is None
    assert Role.ERROR not in [role for role, _ in classify(read_typed(TABLES, line))]


GOOD = [
    "migrate -d blk inc tcp:0:4444",
    'info block -v "d0"',
    "print/x ((1+2)*'A' - ~0x1f) % 7",
    'block_resize "d\\"0" 1.5G',
    "set_link net0 off",
    "migrate_set_parameter max-bandwidth 100M",
    "i /2b 0x3d4 . 5",
    "screendump shot.png -f png",
]


@given(st.sampled_from(GOOD), st.data())
def test_no_beginning_of_a_good_line_is_an_error(line: str, data: st.DataObject) -> None:
    assert complaint(read_typed(TABLES, line[: data.draw(st.integers(0, len(line)))])) is None


@given(st.text(st.sampled_from("abdimoprstx01 (+'\"-/%$#"), max_size=12))
def test_a_line_that_reads_has_no_complaint(text: str) -> None:
    line = f"print {text}"
    if read_line(TABLES, line).error is None:
        assert complaint(read_typed(TABLES, line)) is None
