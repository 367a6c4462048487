"""What one reading of a line tells: its parts, where they stand, and whether more typing could cure it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.line.reading import DEPTH_MAX, Reading, read_line, read_typed
from qmon.hmp.tables.table import default_tables
from tests.support.fake_target import one_command

TABLES = default_tables()


def test_names_and_arguments_have_their_positions() -> None:
    text = "(qemu)  info  block -v d0  # all"
    reading = read_typed(TABLES, text)
    assert reading.line == "info  block -v d0  "
    assert text[reading.end :] == "# all"
    assert reading.typed == "info block"
    assert [text[name.start : name.end] for name in reading.names] == ["info", "block"]
    assert [text[piece.start : piece.end] for piece in reading.arguments.pieces] == ["-v", "d0"]
    assert reading.arguments.values == {"verbose": True, "device": "d0"}
    assert reading.error is None


@pytest.mark.parametrize("text", ["", "  ", "# note", " \t # note"])
def test_a_line_without_a_command_does_nothing(text: str) -> None:
    for reading in (read_line(TABLES, text), read_typed(TABLES, text)):
        assert reading.does_nothing
        assert (reading.names, reading.command, reading.error) == ((), None, None)


def test_a_comment_is_an_argument_where_there_are_none() -> None:
    assert read_line(TABLES, "info block #b").arguments.values == {}
    assert read_line(TABLES, "info block #b", comments=False).arguments.values == {"device": "#b"}


def test_an_unknown_name_may_be_the_beginning_of_one() -> None:
    assert read_typed(TABLES, "info blo").is_curable
    assert not read_typed(TABLES, "info blo ").is_curable
    assert not read_typed(TABLES, "info blx").is_curable
    assert read_line(TABLES, " info blx").error == "unknown command: ' info blx'"


def test_a_bare_word_at_the_end_is_a_flag_only_where_the_line_goes_on() -> None:
    assert read_line(TABLES, "migrate blk ").arguments.values == {"uri": "blk"}
    assert read_typed(TABLES, "migrate blk ").arguments.values == {"blk": True}
    assert read_typed(TABLES, "migrate blk # note").arguments.values == {"uri": "blk"}


def test_a_line_within_a_line_is_read_too() -> None:
    lines = [each.line for each in read_line(TABLES, "time watch -n 3 1 info status # x").nested]
    assert lines == ["time watch -n 3 1 info status ", "watch -n 3 1 info status ", "info status "]
    assert read_line(TABLES, "watch 1x info status").inner is None
    inner = read_line(TABLES, "watch info status").inner
    assert inner is not None
    assert inner.line == "info status"


def test_lines_are_read_within_each_other_as_deep_as_they_may_run() -> None:
    deepest = read_line(TABLES, "time " * DEPTH_MAX + "stop")
    assert [each.line for each in deepest.nested][-1] == "stop"
    assert not deepest.is_too_deep
    assert read_line(TABLES, "time " * (DEPTH_MAX + 1) + "stop").is_too_deep
    assert not read_line(TABLES, "time " * (DEPTH_MAX + 1)).is_too_deep


MIGRATE = "detach:-d,blk:-b|blk,inc:-i|inc,resume:-r,uri:s"
TYPES = (
    MIGRATE
    + " f:/,a:l,b:i. f:-fs,g:-g,a:B? n:-n,a:l w:-w|wo,a:i device:O a:i a:M a:o a:T a:b a:s a:S f:/,a:l"
).split()

ENDINGS = ["", " x", *"\"n1xfs')KBdgrwo0", 'n"', "A'", "-x", "on", "ff", "390", "e-390"]

ODD = ["id=", "x,id=", "x,id=,", "bl", "blk", "blk ", "blk -", "-b blk", "w", "wo ", "1/0x", "1/(0"]
ODD += [
    "1/~0xffffffffffffffff",
    "1e-",
    "9" * 14,
    "9" * 14 + ".5",
    "0x80000000000",
    "9" * 400,
    "9" * 400 + "e-",
]

unfinished = st.text(
    st.sampled_from("019.-+/*%&~()'\"\\ xXeEkKmsuonfdbliwgrA,=é$"), max_size=9
) | st.sampled_from(ODD)


def cure(reading: Reading) -> str | None:
    """The line with something behind it that makes it good; None when none of what is tried does."""
    start = reading.arguments.bad or reading.start
    for first, closed in product(ENDINGS, range(reading.text.count("(") + 1)):
        begun = reading.text + first + ")" * closed
        for second in ("", f"-({begun[start:]})", *(f" {ending}" for ending in ENDINGS)):
            cured: str = begun + second
            if read_line(reading.tables, cured).error is None:
                return cured
    return None


@given(args_type=st.sampled_from(TYPES), text=unfinished)
def test_what_is_said_to_be_curable_can_be_cured(args_type: str, text: str) -> None:
    reading = read_typed(one_command(args_type), f"cmd {text}")
    if reading.error is not None and reading.is_curable:
        assert cure(reading) is not None


@given(args_type=st.sampled_from(TYPES), text=unfinished, behind=unfinished | st.sampled_from(ENDINGS))
def test_what_is_said_not_to_be_curable_stays_wrong(args_type: str, text: str, behind: str) -> None:
    tables = one_command(args_type)
    if read_line(tables, f"cmd {text}{behind}").error is None:
        reading = read_typed(tables, f"cmd {text}")
        assert reading.error is None or reading.is_curable


@given(args_type=st.sampled_from(TYPES), text=unfinished)
def test_a_line_that_reads_as_a_whole_is_at_worst_curable_while_it_is_typed(
    args_type: str, text: str
) -> None:
    tables = one_command(args_type)
    if read_line(tables, f"cmd {text}").error is None:
        typed = read_typed(tables, f"cmd {text}")
        assert typed.error is None or typed.is_curable
