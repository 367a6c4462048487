"""What is shown behind the cursor: the arguments that may follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.editing.hint import hint
from qmon.hmp.line.reading import read_typed
from qmon.hmp.tables.table import default_tables

TABLES = default_tables()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("migrate", " [-n] [-d] [-b] [-i] [-r] uri"),
        ("migrate ", "[-n] [-d] [-b] [-i] [-r] uri"),
        ("migrate -d ", "[-n] [-b] [-i] [-r] uri"),
        ("migrate -d blk ", "[-n] [-i] [-r] uri"),
        ("migrate -d tcp:0:4444", ""),
        ("migrate -d tcp:0:4444 ", ""),
        ("migrate -", ""),
        ("migrate -q ", ""),
        ("mig", ""),
        ("nosuch ", ""),
        ("", ""),
        ("stop", ""),
        ("stop ", ""),
        ("stop # ", ""),
        ("info", " [subcommand]"),
        ("info block ", "[-n] [-v] [device]"),
        ("block_resize d0 ", "size"),
        ("screendump shot.png ", "[-f format] [device] [head]"),
        ("i/x 4 ", "[. index]"),
    ],
)
def test_the_arguments_that_may_follow_are_shown(text: str, shown: str) -> None:
    assert hint(read_typed(TABLES, text)) == shown


@given(st.text(st.sampled_from("migrateinfoblock -\"'\\/dx0 (+#"), max_size=20))
def test_any_beginning_has_a_hint_or_none(text: str) -> None:
    assert "\n" not in hint(read_typed(TABLES, text))
