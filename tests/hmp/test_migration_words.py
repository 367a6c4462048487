"""What is said about a migration: its pace, the line that helps one that does not converge, and its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.migration_words import advised_line, details, not_converging, pace, summary
from qmon.hmp.monitor import Monitor
from qmon.notation.units import MIB
from tests.support.fake_target import FakeMachine, FakePerson


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ({}, ""),
        ({"x-qmon-send-rate": 10 * MIB}, "10 MiB/s"),
        (
            {"x-qmon-send-rate": 10 * MIB, "x-qmon-guest-write-rate": 0, "x-qmon-remaining-time": 125_000},
            "10 MiB/s, 2 min 5 s left",
        ),
        (
            {"x-qmon-send-rate": 10 * MIB, "x-qmon-guest-write-rate": 30 * MIB},
            "10 MiB/s, guests write 30 MiB/s",
        ),
        ({"ram": {"mbps": 838.8608}}, "100 MiB/s"),
    ],
)
def test_a_time_is_shown_only_if_the_target_knows_one(info: dict[str, Any], text: str) -> None:
    assert pace(info) == text


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ({}, ""),
        ({"total-time": 1234}, "in 1.2 s"),
        ({"total-time": 1234, "downtime": 5}, "in 1.2 s, downtime 5 ms"),
        (
            {"total-time": 200, "downtime": 5, "disk": {"transferred": 8 * MIB}},
            "8 MiB in 0.2 s, downtime 5 ms",
        ),
    ],
)
def test_a_summary_has_what_is_known(info: dict[str, Any], text: str) -> None:
    assert summary(info) == text


@pytest.mark.parametrize(
    ("info", "lines"),
    [
        ({}, []),
        ({"x-qmon-verified": "checksums of every record"}, ["Verified: checksums of every record"]),
        (
            {
                "x-qmon-peer": "tcp:192.0.2.7:4444",
                "x-qmon-turned-away": [{"export": "d0", "clients": 2}],
            },
            [
                "2 clients of export 'd0' were disconnected: the disk is at 192.0.2.7 now. Clients must"
                " connect to the export there: export it there if you have not yet"
            ],
        ),
        (
            {
                "x-qmon-peer": "unix:/run/move.sock",
                "x-qmon-turned-away": [{"export": "d0", "clients": 1}],
            },
            [
                "1 client of export 'd0' was disconnected: the disk is at the destination now. Clients must"
                " connect to the export there: export it there if you have not yet"
            ],
        ),
        (
            {
                "x-qmon-peer": "tcp:[2001:db8::7]:4444",
                "x-qmon-turned-away": [{"export": "d0", "clients": 1}, {"export": "d1", "clients": 1}],
            },
            [
                "2 clients of exports 'd0', 'd1' were disconnected: the disks are at [2001:db8::7] now."
                " Clients must connect to the exports there: export them there if you have not yet"
            ],
        ),
        (
            {"x-qmon-unreachable": {"drives": ["d0"], "nbd-server": False}},
            [
                "No NBD server runs, so guests can't reach the disk: 'nbd_server_start HOST:10809', then"
                " 'nbd_server_add -w d0'"
            ],
        ),
        (
            {"x-qmon-unreachable": {"drives": ["d1", "d2"], "nbd-server": True}},
            [
                "No export has the drives 'd1', 'd2', so guests can't reach them: 'nbd_server_add -w d1',"
                " 'nbd_server_add -w d2'"
            ],
        ),
    ],
)
def test_the_end_is_told_in_a_line_for_each_thing(info: dict[str, Any], lines: list[str]) -> None:
    assert list(details(info)) == lines


@given(st.sampled_from(["max-bandwidth", "downtime-limit"]), st.integers(1, 1 << 50))
def test_the_advised_line_sets_the_advised_value(parameter: str, value: int) -> None:
    machine, person = FakeMachine(), FakePerson()
    line = advised_line({"parameter": parameter, "value": value})
    assert asyncio.run(Monitor(machine.registry).run_line(line, person)), person.said()
    assert machine.calls == [("migrate-set-parameters", {parameter: value})]


def test_a_guest_is_throttled_by_its_writes() -> None:
    line = advised_line({"parameter": "bps_wr", "value": 5 * MIB, "device": "d1"})
    assert line == "block_set_io_throttle d1 0 0 5242880 0 0 0"


def test_what_helps_against_a_guest_that_outruns_its_line_is_named() -> None:
    told = not_converging({"reason": "guests write much", "parameter": "bps_wr", "value": MIB})
    assert "'migrate_set_parameter x-qmon-copy-mode write-blocking'" in told
    assert "'migrate_set_capability auto-converge on'" in told
    held = not_converging({"reason": "guests write much", "parameter": "max-bandwidth", "value": MIB})
    assert "auto-converge" in held
    mode = {"reason": "guests write much", "parameter": "x-qmon-copy-mode", "value": "write-blocking"}
    assert "auto-converge" not in not_converging(mode)


def test_of_one_that_a_restart_has_interrupted_only_the_rest_is_told() -> None:
    assert summary({"disk": {"transferred": 3 * MIB}}) == "3 MiB since this machine was restarted"
    assert summary({}) == ""
