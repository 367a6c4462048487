"""Runs that once broke a promise, or nearly did, held to it for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.proxy import Fault, Place, Rule, Way
from tests.torture.scenario import MIB, Kill, Scenario
from tests.torture.trial import try_out

GO_ARRIVED = Rule(Place(Way.ANSWERS, 0, "RUNNING"), Fault.SIGNAL)
BOTH = ("source", "target")


@pytest.mark.parametrize("place", [Place(Way.STREAM, 20, "GO"), Place(Way.ANSWERS, 6, "RUNNING")], ids=str)
@pytest.mark.parametrize("shared", [False, True], ids=["copied", "shared"])
def test_an_order_or_an_answer_with_a_wrong_bit_is_asked_for_again(
    tmp_path: Path, place: Place, shared: bool
) -> None:
    rules = (Rule(place, Fault.FLIP, bit=3),)
    result = try_out(Scenario(1, "proxy", (4 * MIB,), shared, 0, rules), tmp_path / "run")
    assert result.problems == []
    assert result.outcome == "resolved by asking again"


@pytest.mark.parametrize("answer", ["AGREED", "FLUSHED", "PREPARED"])
def test_an_answer_whose_length_is_wrong_is_not_waited_for(tmp_path: Path, answer: str) -> None:
    rules = (Rule(Place(Way.ANSWERS, 2, answer), Fault.FLIP, bit=6),)
    result = try_out(Scenario(1, "proxy", (4 * MIB,), False, 0, rules), tmp_path / "run")
    assert result.problems == []
    assert result.outcome == "failed, runs on"
    assert "guests continue" not in result.log  # after 5.6 s without the whole answer they would
    assert result.settle_seconds < 25  # every other time-out of the migration's own is longer


def test_a_source_that_has_handed_over_sends_guests_away_also_after_a_restart(tmp_path: Path) -> None:
    kill = Kill(BOTH, BOTH, GO_ARRIVED, 0.3, 0.1)
    result = try_out(Scenario(1, "kill", (4 * MIB,), False, 0, kill=kill), tmp_path / "run")
    assert result.problems == []
    assert result.outcome == "resolved by asking again"
