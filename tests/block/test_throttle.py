"""Throttling: how long requests are asked to wait, and that nobody waits once the gate is to be closed."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.gate import Gate
from qmon.block.throttle import LONGEST_NAP_SECONDS, Limits, Throttle, ThrottleFilter
from tests.support.memory import MemoryNode

HOUR_LONG = Limits(bps_wr=1)
"""With these a write behind one of 4 KiB waits for more than an hour."""


class Naps:
    """Notes for how long a request is asked to sleep, and ends the waiting after the first time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return True


def naps(limits: Limits, *requests: tuple[str, int]) -> list[float]:
    """The first nap of each request that had to wait, of some that come at once."""
    throttle = Throttle()
    throttle.set(limits, "d0")
    naps = Naps()
    for direction, length in requests:
        throttle.wait(direction, length, naps)
    return naps.seconds


@pytest.mark.parametrize(
    "limits",
    [
        Limits(bps=1000),
        Limits(bps_wr=1000),
        Limits(iops=1),
        Limits(iops_wr=1),
        Limits(iops=1000, iops_size=1),
    ],
)
def test_what_is_above_a_limit_waits(limits: Limits) -> None:
    assert naps(limits, ("wr", 10_000), ("wr", 10_000)) == [LONGEST_NAP_SECONDS]


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(bps_rd=1), Limits(iops_rd=1), Limits(bps_wr=10**9), Limits(iops=10**9)]
)
def test_what_is_below_a_limit_or_limited_otherwise_does_not_wait(limits: Limits) -> None:
    assert naps(limits, *[("wr", 10_000)] * 10) == []


@given(st.integers(1, 1 << 40), st.integers(1, 1 << 31))
def test_nobody_sleeps_long_without_looking_at_the_limits_again(rate: int, length: int) -> None:
    found = naps(Limits(bps=rate), ("rd", length), ("rd", length), ("rd", length))
    assert all(0 < seconds <= LONGEST_NAP_SECONDS for seconds in found)


def test_a_burst_passes_at_once() -> None:
    assert naps(Limits(bps=1000, bps_max=30_000), *[("wr", 10_000)] * 3) == []


def test_who_waits_goes_on_when_the_gate_is_to_be_closed() -> None:
    gate, throttle, memory = Gate(), Throttle(), MemoryNode(1 << 20)
    throttle.set(HOUR_LONG, "d0")
    node = ThrottleFilter(memory, throttle, gate)
    first = threading.Event()

    def write() -> None:
        with gate:
            node.write(0, b"a" * 4096)
            first.set()
            node.write(4096, b"b" * 4096)

    writer = threading.Thread(target=write)
    writer.start()
    assert first.wait(20)
    assert gate.close("test", 20)
    writer.join(20)
    assert bytes(memory.data[:8192]) == b"a" * 4096 + b"b" * 4096


def test_who_waits_goes_on_when_the_limits_are_lifted() -> None:
    gate, throttle, memory = Gate(), Throttle(), MemoryNode(1 << 20)
    throttle.set(HOUR_LONG, "d0")
    node = ThrottleFilter(memory, throttle, gate)
    node.zero(0, 4096)
    writer = threading.Thread(target=node.write, args=(0, b"a" * 4096))
    writer.start()
    throttle.set(Limits(), "d0")
    writer.join(20)
    assert bytes(memory.data[:4096]) == b"a" * 4096
