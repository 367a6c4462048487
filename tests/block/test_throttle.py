"""Throttling: how long requests are asked to wait, and that nobody waits once the gate is to be closed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.gate import Gate
from qmon.block.throttle import LONGEST_NAP_SECONDS, Limits, Throttle, ThrottleFilter, wait
from tests.support.memory import MemoryNode
from tests.support.waiting import PATIENCE

HOUR_LONG = Limits(bps_wr=1)
"""With these a write behind one of 4 KiB waits for more than an hour."""


@dataclass(eq=False)
class Disk:
    """A member of a throttle group."""

    throttle: Throttle = field(default_factory=Throttle)


class Naps:
    """Notes for how long a request is asked to sleep, and ends the waiting after the first time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float, woken: threading.Event) -> bool:
        self.seconds.append(seconds)
        return True


def naps(limits: Limits, *requests: tuple[str, int]) -> list[float]:
    """The first nap of each request that had to wait, of some that come at once."""
    disk = Disk()
    disk.throttle.set(limits)
    naps = Naps()
    for direction, length in requests:
        wait(disk, direction, length, naps)
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
    gate, disk, memory = Gate(), Disk(), MemoryNode(1 << 20)
    disk.throttle.set(HOUR_LONG)
    node = ThrottleFilter(memory, disk, gate)
    first = threading.Event()

    def write() -> None:
        with gate:
            node.write(0, b"a" * 4096)
            first.set()
            node.write(4096, b"b" * 4096)

    writer = threading.Thread(target=write)
    writer.start()
    assert first.wait(PATIENCE)
    assert gate.close("test", PATIENCE)
    writer.join(PATIENCE)
    assert bytes(memory.data[:8192]) == b"a" * 4096 + b"b" * 4096


def test_who_waits_goes_on_when_the_limits_are_lifted() -> None:
    gate, disk, memory = Gate(), Disk(), MemoryNode(1 << 20)
    disk.throttle.set(HOUR_LONG)
    node = ThrottleFilter(memory, disk, gate)
    node.zero(0, 4096)
    writer = threading.Thread(target=node.write, args=(0, b"a" * 4096))
    writer.start()
    disk.throttle.set(Limits())
    writer.join(PATIENCE)
    assert bytes(memory.data[:4096]) == b"a" * 4096


def test_who_waits_goes_on_when_the_disk_leaves_its_group() -> None:
    gate, disk, memory = Gate(), Disk(), MemoryNode(1 << 20)
    disk.throttle.set(HOUR_LONG)
    node = ThrottleFilter(memory, disk, gate)
    node.zero(0, 4096)
    writer = threading.Thread(target=node.write, args=(0, b"a" * 4096))
    writer.start()
    disk.throttle = Throttle()
    writer.join(PATIENCE)
    assert bytes(memory.data[:4096]) == b"a" * 4096


def test_the_disks_of_a_group_share_its_limits() -> None:
    one, naps = Disk(), Naps()
    other = Disk(one.throttle)
    one.throttle.set(Limits(bps=1000))
    wait(one, "rd", 10_000, naps)
    assert naps.seconds == []
    wait(other, "rd", 10_000, naps)
    assert naps.seconds == [LONGEST_NAP_SECONDS]


def served(throttle: Throttle, clock: Clock, waiting: dict[int, int], limit: int) -> list[int]:
    """The disks of the first ``limit`` requests to pass; ``waiting``: how many each disk has."""
    disks = {number: Disk(throttle) for number in waiting}
    requests = [
        (number, request)
        for number, count in waiting.items()
        for _ in range(count)
        if (request := throttle.enter(disks[number], "wr", 1)) is not None
    ]
    passed: list[int] = []
    while len(passed) < limit:
        naps = [throttle.try_again(request, "wr") for _, request in requests]
        passed += [number for (number, _), nap in zip(requests, naps, strict=True) if nap == 0]
        requests = [each for each, nap in zip(requests, naps, strict=True) if nap > 0]
        clock.now += min(naps, default=0.0) + 1e-9
    return passed


@given(st.dictionaries(st.integers(0, 9), st.integers(1, 20), min_size=1), st.integers(1, 20))
def test_the_disks_of_a_group_take_turns(waiting: dict[int, int], rounds: int) -> None:
    clock = Clock()
    throttle = Throttle(clock=clock)
    throttle.set(Limits(iops=1))
    assert throttle.enter(Disk(throttle), "wr", 1) is None  # the bucket is full then
    rounds = min(rounds, min(waiting.values()))
    passed = served(throttle, clock, waiting, rounds * len(waiting))
    assert {number: passed.count(number) for number in waiting} == dict.fromkeys(waiting, rounds)


def test_reads_and_writes_take_turns_if_they_share_a_limit() -> None:
    clock = Clock()
    disk = Disk(Throttle(clock=clock))
    disk.throttle.set(Limits(iops=1))
    assert disk.throttle.enter(disk, "wr", 1) is None
    requests = [(way, disk.throttle.enter(disk, way, 1)) for way in ("wr", "wr", "wr", "rd", "rd", "rd")]
    order = []
    for _ in range(len(requests)):
        clock.now += 1.0001
        for way, request in list(requests):
            assert request is not None
            if disk.throttle.try_again(request, way) == 0:
                order.append(way)
                requests.remove((way, request))
    assert order in (["rd", "wr"] * 3, ["wr", "rd"] * 3)


def test_a_request_that_gives_up_holds_nobody_up() -> None:
    clock = Clock()
    disk, other = Disk(Throttle(clock=clock)), Disk()
    other.throttle = disk.throttle
    disk.throttle.set(Limits(iops=1))
    assert disk.throttle.enter(disk, "wr", 1) is None
    first, second = disk.throttle.enter(disk, "wr", 1), disk.throttle.enter(other, "wr", 1)
    assert first is not None
    assert second is not None
    disk.throttle.give_up(disk, first, "wr")
    assert second.woken.is_set()
    clock.now += 1
    assert disk.throttle.try_again(second, "wr") == 0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def passed(limits: Limits, seconds: int, request: int, direction: str = "wr") -> list[int]:
    """How much passes in each second, of requests of one size that come one after the other."""
    clock = Clock()
    disk = Disk(Throttle(clock=clock))
    disk.throttle.set(limits)
    amounts = [0] * seconds

    def sleep(seconds: float, woken: threading.Event) -> bool:
        clock.now += seconds + 1e-9
        return False

    while True:
        wait(disk, direction, request, sleep)
        if (second := int(clock.now - 1000)) >= seconds:
            return amounts
        amounts[second] += request


def test_a_burst_goes_at_its_own_rate_for_its_length() -> None:
    amounts = passed(Limits(bps=1000, bps_max=10_000, bps_max_length=3), 30, 100)
    at_first, later = amounts[:3], amounts[4:]
    assert all(10_000 <= amount <= 11_100 for amount in at_first)
    assert all(900 <= amount <= 1100 for amount in later)


@given(
    rate=st.integers(1, 5000),
    factor=st.integers(1, 20),
    length=st.integers(1, 10),
    request=st.integers(1, 500),
)
def test_no_burst_is_larger_than_its_rate_and_length_allow(
    rate: int, factor: int, length: int, request: int
) -> None:
    burst = rate * factor
    amounts = passed(Limits(bps=rate, bps_max=burst, bps_max_length=length), 5, max(request, burst // 50 + 1))
    slack = burst + max(request, burst // 50 + 1)
    for seconds in range(1, 6):
        assert sum(amounts[:seconds]) <= burst * length + rate * seconds + slack
        if length > 1:
            assert sum(amounts[:seconds]) <= burst * seconds + slack
