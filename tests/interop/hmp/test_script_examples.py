"""The shell examples in the manual's page about scripts are true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.examples import matches
from tests.support.processes import CHECKOUT
from tests.support.waiting import PATIENCE

PAGE = CHECKOUT / "docs" / "scripts.rst"
PROMPT = "    $ "
MARK = "\x1e"


def examples() -> list[list[tuple[str, list[str]]]]:
    """The blocks of commands, each with the lines that it prints."""
    found: list[list[tuple[str, list[str]]]] = []
    inside = False
    for line in PAGE.read_text(encoding="utf-8").split("\n"):
        if line.startswith(PROMPT):
            if not inside:
                found.append([])
            inside = True
            found[-1].append((line.removeprefix(PROMPT), []))
        elif inside and line.startswith("    "):
            found[-1][-1][1].append(line[4:])
        else:
            inside = False
    return found


def test_there_are_examples() -> None:
    assert len(examples()) >= 8


@pytest.mark.parametrize("steps", [pytest.param(steps, id=steps[0][0]) for steps in examples()])
def test_an_example_is_true(steps: list[tuple[str, list[str]]], tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    qmon = programs / "qmon"
    qmon.write_text(f'#!/bin/sh\nexec {sys.executable} -m qmon -statedir "{tmp_path}/state" "$@"\n')
    qmon.chmod(0o755)
    script = ""
    for command, answer in steps:
        if command.startswith("cat "):
            (tmp_path / command.split()[1]).write_text("\n".join(answer) + "\n")
        script += f"{command}\nstatus=$?; printf '{MARK}'; (exit $status)\n"
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
    }
    done = subprocess.run(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=3 * PATIENCE,
    )
    answers = done.stdout.split(MARK)[:-1]
    assert len(answers) == len(steps), done.stdout
    for (command, expected), said in zip(steps, answers, strict=True):
        assert matches(expected, said.removesuffix("\n")), f"{command}: {said}"
