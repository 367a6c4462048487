"""Typing and pasting are told apart by what one read from the terminal brings."""

from __future__ import annotations

from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

from qmon.console.terminal import Bursts


def keys_of(text: str) -> list[KeyPress]:
    keys: list[KeyPress] = []
    Vt100Parser(keys.append).feed(text)
    return keys


def pasted(keys: list[KeyPress]) -> list[str]:
    return [press.data for press in keys if press.key == Keys.BracketedPaste]


def test_a_typed_line_passes_at_once() -> None:
    bursts = Bursts()
    for text in ("info block\r", "i", "\x1b[A\r", "\r"):
        keys = keys_of(text)
        assert bursts.take(keys) == keys
    assert bursts.release() == []


def test_text_behind_an_enter_in_one_read_is_a_paste() -> None:
    bursts = Bursts()
    assert bursts.take(keys_of("info block\rinfo\tst")) == []
    assert bursts.take(keys_of("atus\r")) == []
    assert pasted(bursts.release()) == ["info block\ninfo\tstatus\n"]
    assert bursts.release() == []


def test_a_key_that_is_no_text_ends_a_paste_and_acts_after_it() -> None:
    bursts = Bursts()
    assert bursts.take(keys_of("stop\rcont\r")) == []
    keys = bursts.take(keys_of("\x03"))
    assert [press.key for press in keys] == [Keys.BracketedPaste, Keys.ControlC]
    assert pasted(keys) == ["stop\ncont\n"]
