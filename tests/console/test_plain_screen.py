"""A terminal that only takes text: each text comes once, and progress now and then."""

from __future__ import annotations

import io

import pytest
from prompt_toolkit.buffer import Buffer

from qmon.console.progress import Bar
from qmon.console.screen import KEPT_MOST, PlainScreen
from qmon.console.view import Status
from qmon.notation.units import MIB


class Watch:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def text() -> io.StringIO:
    """What was written."""
    return io.StringIO()


def test_what_is_kept_back_is_bounded_and_the_rest_is_counted(text: io.StringIO) -> None:
    screen = PlainScreen(text, Status(busy=True), Buffer())
    screen.hold()
    for number in range(KEPT_MOST + 3):
        screen.write(f"event {number}\n")
    assert text.getvalue() == ""
    screen.resume()
    lines = text.getvalue().splitlines()
    assert lines[:2] == ["3 older messages are not shown", "event 3"]
    assert lines[-1] == f"event {KEPT_MOST + 2}"
    assert len(lines) == KEPT_MOST + 1


def test_progress_is_shown_when_there_is_some_and_not_too_often(text: io.StringIO) -> None:
    watch, status = Watch(), Status(busy=True)
    screen = PlainScreen(text, status, Buffer(), watch)
    bar = Bar("migrate", screen.refresh, lambda bar: None)
    status.bars.append(bar)
    for second, done in ((0, 0), (1, 10), (4, 20), (6, 30), (12, 30), (60, 30), (61, 40), (62, 50)):
        watch.now = float(second)
        bar.update(done * MIB, 100 * MIB, "-")
    shown = [line.split(",")[0] for line in text.getvalue().splitlines()]
    assert shown == ["migrate: 0%", "migrate: 30%", "migrate: 40%"]
