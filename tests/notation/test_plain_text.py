"""Whatever the text, what is left of it is seen as it is written; what was seen before is as it was."""

from __future__ import annotations

import logging
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.host.logs import Log
from qmon.notation.plain_text import in_one_line, one_line, plain, visible

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(st.text(st.characters(codec=None)))
def test_no_control_is_left(text: str) -> None:
    for cleaned, kept in ((plain(text), "\t\n"), (one_line(text), ""), (visible(text), "")):
        controls = [one for one in cleaned if unicodedata.category(one) == "Cc" and one not in kept]
        assert not controls
        assert not [one for one in cleaned if unicodedata.bidirectional(one) in BIDI]
        assert not [one for one in cleaned if "\udc80" <= one <= "\udc9f"]
    assert len(visible(text)) == len(text)
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize("text", ["", "d0", "naïve 文字 👩‍👩‍👧 e\u0301", "a\tb\nc", "C:\\x1b", "\udce9"])
def test_what_is_seen_is_as_it_was(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\r", r"\x0d"),
        ("\x9b", r"\x9b"),
        (b"\x9b".decode("utf-8", "surrogateescape"), r"\x9b"),
        ("\u202e", r"\u202e"),
        ("\U000e0041", r"\U000e0041"),
        ("\u2028", r"\u2028"),
    ],
)
def test_escapes_say_what_was_there(text: str, shown: str) -> None:
    assert plain(text) == one_line(text) == shown


def test_texts_within_a_value_are_one_line_each() -> None:
    value = {"a\n": ["x\ny", 5, None, {"b": "\x1b"}]}
    assert in_one_line(value) == {"a\n": [r"x\x0ay", 5, None, {"b": r"\x1b"}]}


def test_a_record_of_the_log_is_one_line_and_its_traceback_stands_apart(tmp_path: Path) -> None:
    log = Log()
    path = tmp_path / "log"
    log.start(str(path), lambda name: os.open(name, os.O_WRONLY | os.O_CREAT, 0o600))
    try:
        logging.getLogger("qmon.nbd").warning("client %s", "a\n2026-01-01 INFO forged\x1b[2J")
        try:
            raise ValueError("of\n2026-01-01 INFO forged\x1b[2J")
        except ValueError:
            logging.getLogger("qmon.nbd").exception("a fault")
    finally:
        log.close()
    lines = path.read_text().splitlines()
    assert lines[0].endswith(r"client a\x0a2026-01-01 INFO forged\x1b[2J")
    assert lines[1].endswith("a fault")
    assert all(line.startswith("  ") for line in lines[2:])
    assert lines[-1] == r"  2026-01-01 INFO forged\x1b[2J"
