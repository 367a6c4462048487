"""What a QMP server may answer: nothing of it reaches a person as it is, or ends qmon by a traceback."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from qmon.errors import CommandError
from qmon.hmp.monitor import Monitor
from tests.support.connections import connected_monitor, words
from tests.support.fake_target import FakePerson
from tests.support.runs import Done, one_line, run
from tests.support.strange_server import StrangeServer


def on(folder: Path, answers: dict[str, Any], *lines: str, options: tuple[str, ...] = ()) -> Done:
    with StrangeServer(folder / "qmp", answers):
        given = [word for line in lines for word in ("-c", line)]
        return run("-connect", f"unix:{folder / 'qmp'}", *options, *given)


def test_control_characters_are_shown_as_escapes(tmp_path: Path) -> None:
    done = on(tmp_path, {"info status": "\x1b[2Jgone\x07\r\n"}, "info status")
    assert done.stdout == "\\x1b[2Jgone\\x07\n"


NOT_QMP = {
    "depth": b"[" * 100_000 + b"\n",
    "nonsense": b"nonsense\n",
    "a list": b"[1]\n",
    "an error of nobody": b'{"return": 1, "id": "other"}\n{"error": 1}\n',
    "not UTF-8": b"\xff\xfe\n",
    "an event of another shape": b'{"timestamp": 1, "event": "STOP"}\nx\n',
}


@pytest.mark.parametrize("answer", NOT_QMP.values(), ids=NOT_QMP)
def test_an_answer_that_is_not_qmp_fails_the_line(tmp_path: Path, answer: bytes) -> None:
    done = on(tmp_path, {"info status": answer}, "info status")
    assert done.returncode == 1
    assert done.stderr.startswith("-c:1: Error: the connection to ")
    assert "Traceback" not in done.stderr


def test_a_message_that_is_too_long_ends_the_connection(tmp_path: Path) -> None:
    done = on(tmp_path, {"info status": b'{"return": "' + b"x" * (40 << 20) + b'"}\n'}, "info status")
    assert done.returncode == 1
    assert "the connection to " in done.stderr
    assert len(done.stderr) < 2000


@pytest.mark.parametrize(
    "names", [7, "x", [1, {"name": 2}, {}], {"a": 1}], ids=["number", "text", "rows", "object"]
)
def test_a_list_of_commands_of_another_shape_is_no_reason_to_end(tmp_path: Path, names: Any) -> None:
    done = on(tmp_path, {"query-commands": names}, "info status")
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.parametrize("answer", [7, [7], {"a": 1}, [{"device": 1}], [{"inserted": []}], None, "text"])
def test_queries_of_another_shape_complete_nothing(tmp_path: Path, answer: Any) -> None:
    queries = ("query-block", "query-named-block-nodes", "query-block-jobs", "qom-list", "query-qmp-schema")

    async def run_it() -> None:
        async with connected_monitor(f"unix:{tmp_path / 'qmp'}") as (_, monitor):
            for text in ("eject ", "block_job_cancel ", "device_del ", "object_add ", "qom-get / "):
                assert set(await completed(monitor, text)) <= {"-f"}

    commands = (
        "eject [-f] device",
        "block_job_cancel device",
        "device_del id",
        "object_add o",
        "qom-get p q",
    )
    rows = "".join(f"{each} -- x\r\n" for each in commands)
    with StrangeServer(tmp_path / "qmp", {**dict.fromkeys(queries, answer), "help": rows}):
        asyncio.run(run_it())


async def completed(monitor: Monitor, text: str) -> list[str]:
    """What is offered; nothing if the answers can't be read, which the console does not show."""
    try:
        return await words(monitor, text)
    except CommandError:
        return []


def test_names_that_would_control_the_terminal_are_not_offered(tmp_path: Path) -> None:
    blocks = [
        {"device": name, "inserted": {"drv": "raw", "file": "x"}} for name in ("good", "\x1b[2J", "a\nquit")
    ]

    async def run_it() -> None:
        async with connected_monitor(f"unix:{tmp_path / 'qmp'}") as (_, monitor):
            found = [word for word in await words(monitor, "eject ") if not word.startswith("-")]
            assert all(word.isprintable() for word in found)
            assert "good" in found

    with StrangeServer(tmp_path / "qmp", {"query-block": blocks, "help": "eject [-f] device -- x\r\n"}):
        asyncio.run(run_it())


def test_text_that_qmp_can_not_carry_is_refused_and_the_connection_stays(tmp_path: Path) -> None:
    async def run_it() -> None:
        async with connected_monitor(f"unix:{tmp_path / 'qmp'}") as (_, monitor):
            person = FakePerson()
            assert not await monitor.run_line("stop \udcff", person)
            assert "not UTF-8" in person.said()
            assert not await monitor.run_line("stop \ufffe", person)
            assert "U+FFFE" in person.said()
            assert await monitor.run_line("stop", person)

    with StrangeServer(tmp_path / "qmp", {}):
        asyncio.run(run_it())


def test_what_is_no_qmp_server_is_said_in_one_line(tmp_path: Path) -> None:
    done = on(tmp_path, {"qmp_capabilities": json.dumps({"error": {"class": "x"}}).encode() + b"\n"}, "stop")
    assert one_line(done).startswith("-connect unix:")
