"""What is suggested in place of a name that nothing has."""

from __future__ import annotations

import asyncio

import pytest

from qmon.hmp.editing.nearest import advice, nearest
from qmon.hmp.monitor import Monitor
from tests.support.fake_target import FakeMachine


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("migrte tcp:0:4444", "migrate"),
        ("blockresize d0 1M", "block_resize"),
        ("info blok", "info block"),
        ("info migrate_params", "info migrate_parameters"),
        ("migrate_set_parameter max-bandwith 1", "max-bandwidth"),
        ("info block d00", "d0"),
        ("migrte # note", "migrate"),
        ("xyzzy", None),
        ("migration", "migrate"),
        ("info stats_", "info stats"),
        ("logout", "quit"),
        ("man migrate", "help"),
        ("--help", "help"),
        ("commands", "help"),
        ("resume", "cont"),
        ("disks", "help disks"),
        ("move d0", "help moving"),
        ("info move", None),
        ("baloon", "balloon"),
        ("", None),
        ("# note", None),
        ("info block d0", None),
        ("print 1+", None),
        ("block_resize nosuch 1M", None),
        ("migrate unix:x", None),
        ("nbd_server_start unix:x", None),
        ("log guest_errors,nosuch", None),
        ("watchdog_action resett", "reset"),
        ("migrate_set_parameter mode", None),
    ],
)
def test_the_nearest_name_is_found(line: str, meant: str | None) -> None:
    monitor = Monitor(FakeMachine().registry)
    assert asyncio.run(nearest(monitor, monitor.read(line))) == meant


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("> 1. (qemu) info status", "Remove the quotes and prompts: 'info status'"),
        ("$ virsh qemu-monitor-command vm --hmp 'info block'", "Remove the quotes and prompts: 'info block'"),
        ("> (qemu) nosuch", "Type 'help' to find a command"),
        ("mv disk", "Type 'help' to find a command"),
        ("info zzz", "Type 'help info' to find a command"),
        ("qiut", "Did you mean 'quit'?"),
        ("block_resize", None),
    ],
)
def test_a_line_that_failed_is_followed_by_the_way_on(line: str, said: str | None) -> None:
    monitor = Monitor(FakeMachine().registry)
    assert asyncio.run(advice(monitor, monitor.read(line))) == said
