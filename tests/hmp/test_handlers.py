"""Which function of a command runs on a target."""

from __future__ import annotations

import asyncio

import pytest

from qmon.hmp.commands import find_function
from qmon.hmp.handlers import Call, handler
from qmon.hmp.monitor import Monitor
from qmon.qmp.registry import Registry
from qmon.qmp.target import Kind, kind_of
from tests.support.fake_target import FakePerson


def test_a_function_that_is_there_already_is_not_replaced() -> None:
    quit_ = find_function("hmp_quit", Registry())
    assert quit_ is not None

    async def other(call: Call) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="hmp_quit"):
        handler("hmp_quit", *quit_.needs)(other)
    assert find_function("hmp_quit", Registry()) is quit_


async def _nothing() -> list[str]:
    return []


def target(*commands: str) -> Registry:
    registry = Registry()
    for name in commands:
        registry.add(name, _nothing)
    return registry


@pytest.mark.parametrize(
    ("commands", "kind"),
    [
        (("query-status", "stop"), Kind.QMON),
        (("human-monitor-command", "query-status", "x-qmon-drive-add"), Kind.QMON),
        (("human-monitor-command", "query-status"), Kind.QEMU),
        (("block-export-add", "quit"), Kind.STORAGE_DAEMON),
    ],
)
def test_the_commands_of_a_target_tell_what_it_is(commands: tuple[str, ...], kind: Kind) -> None:
    assert kind_of(target(*commands)) is kind


@pytest.mark.parametrize("line", ["info status", "stop", "info cpus", "info roms", "migrate tcp:a:1"])
def test_a_storage_daemon_says_that_it_has_no_machine(line: str) -> None:
    person = FakePerson(interactive=False)
    asyncio.run(Monitor(target("block-export-add", "quit")).run_line(line, person))
    assert "a storage daemon has no machine" in person.said()
