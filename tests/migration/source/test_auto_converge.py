"""By how much guests' writes are held back, step by step, as the parameters say."""

from __future__ import annotations

import pytest

from qmon.migration.parameters import Parameters
from qmon.migration.source.auto_converge import next_percentage

STEPS = [
    ({}, 0, 0.5, 20),
    ({}, 20, 0.5, 30),
    ({}, 95, 0.5, 99),
    ({"max-cpu-throttle": 50}, 45, 0.5, 50),
    ({"cpu-throttle-initial": 40, "max-cpu-throttle": 60}, 0, 0.1, 40),
    ({"cpu-throttle-tailslow": True}, 20, 0.1, 30),  # much is missing: a full step
    ({"cpu-throttle-tailslow": True}, 20, 0.95, 24),
]


@pytest.mark.parametrize(("set_to", "now", "ratio", "wanted"), STEPS)
def test_a_step_is_as_long_as_the_parameters_say(
    set_to: dict[str, int | bool], now: int, ratio: float, wanted: int
) -> None:
    parameters = Parameters()
    parameters.set(set_to)
    assert next_percentage(now, ratio, parameters) == wanted
