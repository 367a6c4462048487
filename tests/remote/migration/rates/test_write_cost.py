"""What write-blocking costs a guest is told once, from QEMU's own statistics."""

from __future__ import annotations

from typing import Any

from qmon.remote.migration.rates.write_cost import WriteCost


def statistics(count: int, milliseconds: float) -> list[dict[str, Any]]:
    stats = {"wr_operations": count, "wr_total_time_ns": round(milliseconds * 1e6)}
    return [{"node-name": "#block1", "stats": stats}, {"node-name": "#block2", "stats": {}}]


def test_the_time_of_a_write_is_told_before_and_after() -> None:
    cost = WriteCost("d0", "#block1")
    for second in range(5):
        cost.note(second, statistics(second * 1000, second * 200))
        assert cost.line() is None
    cost.switch()
    lines = []
    for second in range(1, 8):
        cost.note(4 + second, statistics(4000 + second * 40, 800 + second * 1000))
        lines.append(cost.line())
    told = "Drive 'd0': a write of the guest takes 25 ms now, and took 0.20 ms before"
    assert lines == [None, None, None, None, told, None, None]


def test_a_guest_that_does_not_write_is_told_nothing() -> None:
    cost = WriteCost("d0", "#block1")
    cost.note(0, statistics(10, 10))
    cost.switch()
    cost.note(9, statistics(11, 30))
    assert cost.line() is None
