"""Signs of life of a destination: it is asked for one, then waited for, then given up."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.source.vital_signs import HOLD_SECONDS, LOST_SECONDS, PING_SECONDS, VitalSigns


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(signs: VitalSigns) -> tuple[bool, bool, bool]:
    """Whether the destination is asked now, waited for, and given up."""
    return signs.asks(), signs.is_held, signs.is_lost


@given(st.lists(st.floats(0.01, PING_SECONDS - 0.01), max_size=30))
def test_a_destination_that_is_heard_is_not_asked_and_not_waited_for(pauses: list[float]) -> None:
    clock = Clock()
    signs = VitalSigns(clock)
    for pause in pauses:
        clock.now += pause
        assert shown(signs) == (False, False, False)
        signs.heard()


def test_a_silent_destination_is_asked_then_waited_for_then_lost() -> None:
    clock = Clock()
    signs = VitalSigns(clock)
    asked, held, lost = [], [], []
    for second in range(40):
        clock.now = 1000.0 + second
        if signs.asks():
            asked.append(second)
        if signs.is_held:
            held.append(second)
        if signs.is_lost:
            lost.append(second)
    assert asked[0] == PING_SECONDS + 1
    assert len(asked) > 1
    assert all(later - before > PING_SECONDS for before, later in pairwise(asked))
    assert (held[0], lost[0]) == (HOLD_SECONDS + 1, LOST_SECONDS + 1)
    signs.heard()
    assert shown(signs) == (False, False, False)
