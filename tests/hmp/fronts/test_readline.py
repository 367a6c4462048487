"""The line editor as a function: keys in, the line and what the terminal is to show out."""

from __future__ import annotations

import pytest

from qmon.hmp.fronts.readline import (
    HISTORY_MAX,
    LINE_MAX,
    Key,
    Readline,
    columns,
    common_prefix,
)


def typed(keys: str, editor: Readline | None = None) -> Readline:
    editor = editor or Readline("> ")
    for key in keys:
        if editor.feed(key) is Key.ENTER:
            editor.take_line()
    return editor


@pytest.mark.parametrize(
    ("keys", "line", "cursor"),
    [
        ("abc\x1b[D\x1b[DX", "aXbc", 2),
        ("abc\x01X\x05Y", "XabcY", 5),
        ("abc\x02\x06\x0b\x03X", "abcX", 4),
        ("abc\x1b[D\x15", "c", 0),
        ("abc def \x17", "abc ", 4),
        ("abc\x7f\x08", "a", 1),
        ("abc\x1bOH\x1b[3~\x04", "c", 0),
        ("abc\x1b[1~\x1b[C\x1b[4~Z\x1b[13~", "abcZ", 4),
        ("abc\x1b[D\x1bODx\x1bOFy", "abxcy", 5),
        ("one\rtwo\r\x10", "two", 3),
        ("one\rtwo\r\x1b[A\x1b[A", "one", 3),
        ("one\rtwo\r\x10\x10\x10\x0e", "two", 3),
        ("one\rtwo\r\x10\x0e", "", 0),
        ("\x1b[1;5D\x00\x1bzx", "5Dx", 3),
        ("one\r\x9bA\udc9bDX", "onXe", 3),
        ("one two \x17", "one ", 4),
        ("one \x01\x04\x17", "ne ", 0),
    ],
)
def test_the_editing_keys_edit(keys: str, line: str, cursor: int) -> None:
    editor = typed(keys)
    assert (editor.line, editor.cursor) == (line, cursor)


def test_the_history_keeps_the_last_lines_once_each() -> None:
    editor = typed("".join(f"line {number}\r" for number in range(100)) + "line 50\r\r")
    assert len(editor.history) == HISTORY_MAX
    assert editor.history[-2:] == ["line 99", "line 50"]


def test_a_line_is_cut_at_its_most() -> None:
    assert len(typed("x" * (LINE_MAX + 10)).line) == LINE_MAX


def test_an_update_is_what_turns_the_old_line_into_the_new() -> None:
    editor = typed("abc")
    assert editor.update() == "abc\x1b[K"
    assert typed("\x1b[D\x1b[D", editor).update() == "\x1b[D\x1b[D"
    assert typed("X", editor).update() == "\x1b[DaXbc\x1b[K\x1b[D\x1b[D"
    assert editor.update() == ""
    assert editor.show_prompt() == "> aXbc\x1b[K\x1b[D\x1b[D"


def test_completions_are_laid_out_in_columns() -> None:
    assert columns(["stats", "status"]) == ["stats     status    "]
    assert columns(["a" * 38, "b", "c"]) == ["a" * 38 + "  " + "b".ljust(40), "c".ljust(40)]
    assert common_prefix(["status", "stats", "stab"]) == "sta"
