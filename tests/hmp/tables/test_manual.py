"""The manual: a command's page as text, and every example of it run."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.manual import (
    Step,
    examples,
    page,
    plain_text,
)
from qmon.hmp.tables.table import Command, default_tables
from qmon.machine.embedded import EmbeddedMachine
from qmon.notation.drive_options import DriveOptions
from tests.support.examples import matches
from tests.support.fake_target import FakePerson

THERE = "unix:there.sock"

RST = """
``move`` or ``m`` [``-d``] *where*\\ [``,fast``]
  Go to *where*, of which **two** paragraphs tell. The second one is a good deal longer than the
  first, so that it has to be wrapped. See :ref:`stop <command-stop>`.

  - one thing
    that goes on
  - another::

      (qemu) move a
      moved
        far

      (qemu) move b

  ::

    (qemu) move
    where?

  The end.
"""

TEXT = """\
move or m [-d] where[,fast]
  Go to where, of which two paragraphs tell. The second one is a good deal
  longer than the first, so that it has to be wrapped. See stop.

  - one thing that goes on
  - another:

      (qemu) move a
      moved
        far

      (qemu) move b

    (qemu) move
    where?

  The end."""


def commands() -> Iterator[tuple[str, Command]]:
    """Every command of the tables, with all names that lead to it."""
    for command in default_tables().main:
        yield command.entry.names[0], command
        for inner in command.sub_table or ():
            yield f"{command.entry.names[0]} {inner.entry.names[0]}", inner


def test_a_page_is_readable_text() -> None:
    assert plain_text(RST) == TEXT


def test_examples_are_found_with_their_answers() -> None:
    first, second = examples(RST)
    assert first == [Step("move a", ["moved", "  far"]), Step("move b")]
    assert second == [Step("move", ["where?"])]


@pytest.mark.parametrize("name", ["migrate", "info block", "help"])
def test_help_shows_a_commands_page(name: str) -> None:
    text = said(f"help -v {name}")
    assert text.startswith(name)
    assert len(text.split("\n")) > 2
    assert "``" not in text
    assert max(map(len, text.split("\n"))) < 80


def test_help_refuses_a_page_that_is_not_there() -> None:
    assert said("help -v nosuch") == "unknown command: 'nosuch'"
    assert said("help -v info nosuch") == "unknown command: 'info nosuch'"
    assert said("help -v stop nosuch") == "unknown command: 'stop nosuch'"
    assert said("help -v") == "help -v: name a command, as in 'help -v migrate'"


def said(line: str) -> str:
    from qmon.qmp.registry import Registry

    person = FakePerson(interactive=False, comments=False)
    asyncio.run(Monitor(Registry()).run_line(line, person))
    return person.said()


def found_examples() -> list[tuple[str, list[Step]]]:
    return [(name, steps) for name, command in commands() for steps in examples(command.entry.documentation)]


@pytest.mark.parametrize(
    ("name", "steps"), [pytest.param(name, steps, id=f"{name}") for name, steps in found_examples()]
)
def test_the_manuals_examples_are_true(
    name: str, steps: list[Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, data in (("d0.img", bytes(range(256)) * 4096), ("ro.img", b"")):
        (tmp_path / name).write_bytes(data)
        os.truncate(tmp_path / name, 16 << 20)
    (tmp_path / "lines.hmp").write_text("info status\nnosuch\n")
    make_images()
    answers = asyncio.run(run(tmp_path, [step.line for step in steps]))
    for step, answer in zip(steps, answers, strict=True):
        assert matches(step.answer, answer), f"{step.line}: {answer}"


def make_images() -> None:
    """One disk with a MiB of data, and three that are empty, in the current folder."""
    for name in ("d0.img", "ro.img", "there-d0.img", "there-ro.img"):
        Path(name).write_bytes(bytes(range(256)) * 4096 if name == "d0.img" else b"")
        os.truncate(name, 16 << 20)


async def run(folder: Path, lines: list[str]) -> list[str]:
    """What a machine with two drives answers to each line; ``unix:there.sock`` is where another one waits."""
    async with contextlib.AsyncExitStack() as stack:
        if any(THERE in line for line in lines):
            await machine_with_drives(stack, folder / "state there", "there-", THERE)
        machine = await machine_with_drives(stack, folder / "state", "", None)
        monitor = Monitor(machine.registry)
        person = FakePerson(interactive=False, comments=True)
        answers = []
        for line in lines:
            person.history.append(line)
            await monitor.run_line(line, person)
            answers.append(person.said())
        return answers


async def machine_with_drives(
    stack: contextlib.AsyncExitStack, state: Path, prefix: str, incoming: str | None
) -> EmbeddedMachine:
    """A machine on the images of that prefix in the current folder, closed with the stack."""
    machine = EmbeddedMachine(state_folder=state, incoming=incoming)
    stack.push_async_callback(machine.close)
    await machine.start(
        [
            DriveOptions("d0", f"{prefix}d0.img", "raw", "none", False),
            DriveOptions("ro", f"{prefix}ro.img", "raw", "none", True),
        ]
    )
    return machine


def test_an_example_that_is_not_true_is_found() -> None:
    assert matches(["a ... c", "..."], "a b c\nd\ne")
    assert not matches(["a"], "b")
    assert not matches([], "b")
    assert not matches(["a"], "")


def test_every_command_has_a_page() -> None:
    bare = [name for name, command in commands() if not page(command)]
    assert not bare


NOTHING_TO_SHOW = {
    "dump-skeys",
    "expire_password",
    "hostfwd_remove",
    "info capture",
    "info cmma",
    "info cryptodev",
    "info network",
    "info pci",
    "info qdm",
    "info rdma",
    "info rocker-of-dpa-flows",
    "info rocker-of-dpa-groups",
    "info rocker-ports",
    "info skeys",
    "info usbhost",
    "info usernet",
    "info via",
    "info virtio-queue-element",
    "info virtio-queue-status",
    "info virtio-vhost-queue-status",
    "mouse_button",
    "mouse_move",
    "netdev_del",
    "stopcapture",
    "trace-file",
    "xen-event-list",
}
"""Commands of which the machine has nothing to show: they print nothing, or what another's example shows."""


def test_every_command_that_works_has_an_example() -> None:
    without = {name for name, command in commands() if not examples(command.entry.documentation)}
    assert without - {"keys"} == NOTHING_TO_SHOW
