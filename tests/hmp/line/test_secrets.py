"""What is written down of a line that holds a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.line.reading import read_line
from qmon.hmp.line.secrets import request_without_secrets, without_secrets
from qmon.hmp.tables.table import default_tables


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("set_password vnc abc", "set_password vnc ***"),
        ("  set_password  vnc  abc  -d d  keep # x", "  set_password  vnc  ***  -d ***  keep"),
        ("set_password -d vnc abc", "set_password *** *** ***"),
        ('set_password vnc "a b"', "set_password vnc ***"),
        ('set_password vnc "a b', "set_password ***"),
        ("change vnc password abc", "change vnc password ***"),
        ("change d0 d.img raw", "change d0 d.img raw"),
        ("set_password vnc ***x", "set_password vnc ***"),
        ("object_add secret,id=s,data=a,,b,format=raw", "object_add secret,id=s,data=***,format=raw"),
        ("object_add iothread,id=t", "object_add iothread,id=t"),
        ('object_add {"data": "abc', "object_add ***"),
        ("qom-set /objects/s data abc", "qom-set /objects/s data ***"),
        ("time watch 1 set_password vnc abc", "time watch 1 set_password vnc ***"),
        (
            'qmp human-monitor-command {"command-line": "set_password vnc abc"}',
            'qmp human-monitor-command {"command-line": "set_password vnc ***"}',
        ),
        ("time " * 5000 + "set_password vnc abc", "time " * 11 + "***"),
        ("watch 1x set_password vnc abc", "watch ***"),
        ("watch set_password vnc abc", "watch set_password vnc ***"),
        ("info status", "info status"),
        ("set_password", "set_password"),
    ],
)
def test_a_line_is_shown_without_its_secrets(line: str, shown: str) -> None:
    found = without_secrets(read_line(default_tables(), line))
    assert found.line == shown
    assert bool(found.secrets) is (shown != line)


PREFIXES = (
    "set_password vnc ",
    "set_password -d x vnc ",
    "object_add secret,id=s,data=",
    "change vnc password ",
    "qom-set /objects/s data ",
    "time set_password vnc ",
    "watch -n 2 1 change vnc passwd ",
)


def test_a_hash_in_a_password_is_no_comment_where_there_are_none() -> None:
    line = "set_password vnc #abc"
    assert str(without_secrets(read_line(default_tables(), line, comments=False))) == "set_password vnc ***"
    request = request_without_secrets(default_tables(), "human-monitor-command", {"command-line": line})
    assert "#abc" not in str(request)


@given(
    prefix=st.sampled_from(PREFIXES),
    begin=st.sampled_from(["", '"', "'", "{", "\\"]),
    end=st.text(st.sampled_from(" \t\"'\\#,={}-x"), max_size=12),
    comments=st.booleans(),
)
def test_whatever_stands_around_a_secret_it_is_not_shown(
    prefix: str, begin: str, end: str, comments: bool
) -> None:
    reading = read_line(default_tables(), f"{prefix}{begin}5ezam{end}", comments=comments)
    assert "5ezam" not in str(without_secrets(reading))
