"""What of a text that arrives in a burst runs, what is left to edit, and what counts as left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.console.paste import read_burst, without_prompt
from qmon.console.waiting import Waiting, not_run
from qmon.hmp.line.transcript import does_nothing

words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
lines = st.lists(words, max_size=4).map(" ".join).filter(lambda line: not line.startswith("(qemu)"))
ends = st.sampled_from(["\n", "\r", "\r\n"])


@given(st.lists(lines, min_size=1), lines, ends)
def test_whole_lines_run_and_the_rest_is_left(whole: list[str], tail: str, end: str) -> None:
    paste = read_burst(end.join([*whole, tail]))
    assert paste.lines == whole
    assert paste.tail == tail
    assert not paste.transcript


@given(st.lists(st.tuples(st.sampled_from(["", "  ", "\t"]), lines), min_size=1), st.lists(lines), ends)
def test_of_a_transcript_the_lines_with_a_prompt_run(
    prompted: list[tuple[str, str]], answers: list[str], end: str
) -> None:
    rows = [f"{space}(qemu) {line}" for space, line in prompted]
    paste = read_burst(end.join([*answers, *rows, *answers, ""]))
    assert paste.lines == [line for _, line in prompted]
    assert paste.tail == ""
    assert paste.transcript


def test_the_last_line_of_a_transcript_without_its_end_is_left() -> None:
    paste = read_burst("(qemu) stop\nsome answer\n  (qemu) cont")
    assert (paste.lines, paste.tail) == (["stop"], "cont")
    paste = read_burst("(qemu) stop\nsome answer")
    assert (paste.lines, paste.tail) == (["stop"], "")


def test_what_a_transcript_leaves_out_is_counted_up_to_its_last_line() -> None:
    paste = read_burst("\x1b[1m(qemu)\x1b[m stop\rsome answer\r\n# nothing\n\n(qemu)cont\nlast answer")
    assert (paste.lines, paste.tail) == (["stop", "cont"], "")
    assert (paste.left_out.count, paste.left_out.number, paste.left_out.line) == (2, 2, "some answer")
    assert read_burst("stop\nsome answer\n").left_out.count == 0


@pytest.mark.parametrize("piece", [" -d ", "info", "tcp:0:4444 # x"])
def test_a_piece_of_a_line_is_left_as_it_is(piece: str) -> None:
    paste = read_burst(piece)
    assert (paste.lines, paste.tail) == ([], piece)


@given(st.text())
def test_no_pasted_character_can_act_on_the_terminal(text: str) -> None:
    paste = read_burst(text)
    assert not any(
        ord(character) < 32 or 127 <= ord(character) < 160
        for line in (*paste.lines, paste.tail)
        for character in line
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("(qemu) info block", "info block"),
        ("  (qemu) info block", "info block"),
        ("info block", "info block"),
        ("(qemu)info block", "info block"),
        ("(qemu) (qemu) info block", "info block"),
        ("(qemu)", ""),
    ],
)
def test_a_prompt_before_a_typed_line_is_no_part_of_it(typed: str, meant: str) -> None:
    assert without_prompt(typed) == meant


@pytest.mark.parametrize(
    ("line", "nothing"), [("", True), ("  ", True), ("# stop", True), ("  # stop", True), ("stop # x", False)]
)
def test_blank_lines_and_comments_do_nothing(line: str, nothing: bool) -> None:
    assert does_nothing(line) == nothing


def test_lines_wait_in_order_and_only_those_that_do_something_are_counted_as_left() -> None:
    waiting = Waiting()
    waiting.add(["stop", "# why", "cont"])
    waiting.add(["", "info block"])
    assert waiting.next() == "stop"
    assert waiting.abandon() == 2
    assert not waiting


def test_one_line_is_a_line() -> None:
    assert not_run(1) == "1 waiting line was not run"
    assert not_run(3) == "3 waiting lines were not run"
