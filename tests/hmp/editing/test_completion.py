from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.editing.completion import complete
from qmon.hmp.editing.word_lists import ARGUMENTS, FLAGS
from qmon.hmp.line.reading import read_line
from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.table import Tables, default_tables
from qmon.machine.embedded import EmbeddedMachine
from qmon.notation.drive_options import DriveOptions
from qmon.qmp.registry import Registry
from tests.support.fake_target import FakeMachine, one_command


def offered(text: str, tables: Tables | None = None) -> list[str]:
    """The whole lines that the suggestions would make."""
    suggestions = asyncio.run(complete(Monitor(FakeMachine().registry, tables), text))
    return [text[: suggestion.start] + suggestion.text for suggestion in suggestions]


URIS = ("exec:", "fd:", "file:", "tcp:", "unix:")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("dr", [f"drive_{name}" for name in ("add", "backup", "del", "mirror")]),
        ("  quit", ["  quit"]),
        ("info mig", [f"info migrate{end}" for end in ("", "_capabilities", "_parameters")]),
        ("help info st", ["help info status", "help info stats"]),
        ("help -v drive_d", ["help -v drive_del"]),
        ("help -a ba", ["help -a balloon"]),
        ("help drive_d", ["help drive_del"]),
        ("? inf", ["? info"]),
        ("drive_del ", ["drive_del d0"]),
        ("drive_del d0 ", []),
        ("block_resize ", ["block_resize d0"]),
        ("eject -f ", ["eject -f d0"]),
        ("qemu-io ", ["qemu-io d0", "qemu-io -d"]),
        ("info block -", ["info block -n", "info block -v"]),
        ("info block -v ", ["info block -v d0", "info block -v -n"]),
        ("migrate -d ", [f"migrate -d {word}" for word in (*URIS, "-n", "-b", "-i", "-r", "blk", "inc")]),
        ("migrate -d blk ", [f"migrate -d blk {word}" for word in (*URIS, "-n", "-i", "-r", "inc")]),
        ("migrate -d blk t", ["migrate -d blk tcp:"]),
        ("watchdog_action p", ["watchdog_action pause", "watchdog_action poweroff"]),
        ("log unimp,guest", ["log unimp,guest_errors"]),
        ("time drive_del ", ["time drive_del d0"]),
        ("watch inf", ["watch info"]),
        ("watch info nb", ["watch info nbd"]),
        ("watch 1 inf", ["watch 1 info"]),
        ("watch 1x inf", []),
        ("time " * 5000, []),
        ("watch -n 3 0.5 time inf", ["watch -n 3 0.5 time info"]),
        ("wait ", ["wait job", "wait migrate"]),
        ("wait migrate ", []),
        ("qmp query-na", ["qmp query-name"]),
        ("wait m", ["wait migrate"]),
        ("qmp migrate_c", ["qmp migrate_cancel"]),
        ("time info mig", [f"time info migrate{end}" for end in ("", "_capabilities", "_parameters")]),
        ("watch -n 3 0.5 drive_del ", ["watch -n 3 0.5 drive_del d0"]),
        ("trace-file f", ["trace-file flush"]),
        ("drive_mirror d0 x.img q", ["drive_mirror d0 x.img qcow2"]),
        ("drive_add ", ["drive_add 0", "drive_add -n"]),
        (
            "drive_add 0 file=x.img,",
            [f"drive_add 0 file=x.img,{key}=" for key in ("format", "id", "readonly", "cache", "if")],
        ),
        ("drive_add 0 file=x.img,f", ["drive_add 0 file=x.img,format="]),
        ("object_add secret,id=s,form", ["object_add secret,id=s,format="]),
        ("migrate blk -i i", []),
        ("migrate_set_parameter max", ["migrate_set_parameter max-bandwidth"]),
        ("migrate_set_parameter max-bandwidth ", []),
        ("migrate_set_capability e", ["migrate_set_capability events"]),
        (
            "migrate_set_capability events o",
            [f"migrate_set_capability events {word}" for word in ("off", "on")],
        ),
        ("nosuch ", []),
        ("quit # c", []),
    ],
)
def test_what_could_follow_is_offered(text: str, lines: list[str]) -> None:
    assert offered(text) == lines


def test_the_empty_line_offers_every_name_with_its_meaning() -> None:
    monitor = Monitor(Registry())
    suggestions = asyncio.run(complete(monitor, ""))
    assert sorted(suggestion.text for suggestion in suggestions) == monitor.tables.main.names()
    assert all(suggestion.meaning for suggestion in suggestions)


def test_what_has_an_effect_comes_first() -> None:
    names = [line.removeprefix("info ") for line in offered("info ")]
    assert names.index("version") < names.index("balloon")
    assert sorted(names) != names
    meanings = {each.text: each.meaning for each in asyncio.run(complete(Monitor(Registry()), "ba"))}
    assert meanings == {"balloon": "no effect here: set how much memory the guest may use"}


def test_a_qemu_has_an_effect_with_each_command_and_each_address() -> None:
    async def run(command_line: str) -> str:
        return command_line

    registry = Registry()
    registry.add("human-monitor-command", run)
    names = [suggestion.text for suggestion in asyncio.run(complete(Monitor(registry), ""))]
    assert names == sorted(names)
    addresses = [suggestion.text for suggestion in asyncio.run(complete(Monitor(registry), "migrate e"))]
    assert addresses == ["exec:"]


def test_help_offers_the_tasks_to_a_person() -> None:
    monitor = Monitor(Registry())

    def words(text: str, *, tasks: bool = True) -> list[str]:
        return [suggestion.text for suggestion in asyncio.run(complete(monitor, text, tasks=tasks))]

    assert words("help mov") == ["moving"]
    assert words("help al") == ["all"]
    assert words("help mov", tasks=False) == []
    assert words("help info mov") == []
    assert {"migrate", "moving", "disks", "all"} <= set(words("help "))


def test_every_flag_and_every_word_of_a_list_is_one_that_the_tables_have() -> None:
    tables = default_tables()
    for path, letters in FLAGS.items():
        command = read_line(tables, path).command
        assert command is not None, path
        assert {each.letter for each in command.parameters if each.is_flag} == set(letters), path
    for path, key in ARGUMENTS:
        command = read_line(tables, path).command
        assert command is not None, path
        assert key in {each.key for each in command.parameters}, path


def test_what_is_offered_has_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drives, exports, files, settings and flags, by the machine that has them."""
    (tmp_path / "d0.img").write_bytes(bytes(1 << 20))
    monkeypatch.chdir(tmp_path)

    async def look() -> dict[str, str]:
        machine = EmbeddedMachine(state_folder=tmp_path)
        try:
            await machine.start([DriveOptions("d0", "d0.img", "raw", "none", False)])
            await machine.registry.execute(
                "nbd-server-start", {"addr": {"type": "unix", "data": {"path": "nbd"}}}
            )
            await machine.registry.execute("nbd-server-add", {"device": "d0"})
            await machine.registry.execute("object-add", {"qom-type": "secret", "id": "s0", "data": "x"})
            monitor = Monitor(machine.registry)
            lines = (
                "drive_del d",
                "nbd_server_remove d",
                "logfile d",
                "migrate -d -",
                "object_add sec",
                "migrate_set_parameter downt",
                "migrate_set_parameter multifd-compression zl",
                "migrate_set_capability pause",
                "migrate_set_capability ",
                "object_del s",
                "info trace-events nbd_rec",
            )
            found = {line: next(iter(await complete(monitor, line)), None) for line in lines}
            return {line: f"{each.text}: {each.meaning}" if each else "" for line, each in found.items()}
        finally:
            await machine.close()

    assert asyncio.run(look()) == {
        "drive_del d": "d0: raw, 1 MiB, d0.img",
        "nbd_server_remove d": "d0: node #block102, 0 clients",
        "logfile d": "d0.img: 1 MiB",
        "migrate -d -": "-n: only try whether and how fast it would move",
        "object_add sec": "secret: ",
        "migrate_set_parameter downt": (
            "downtime-limit: 300 ms: Longest time to stop the machine at the switchover"
        ),
        "migrate_set_parameter multifd-compression zl": "zlib: ",
        "migrate_set_capability pause": (
            "pause-before-switchover: off: Pause before the switchover until migrate_continue"
        ),
        "migrate_set_capability ": (
            "auto-converge: off: Slow the guests' writes step by step if they write faster than is sent"
        ),
        "object_del s": "s0: secret",
        "info trace-events nbd_rec": "nbd_receive_request: disabled",
    }


def test_a_target_without_drives_offers_none() -> None:
    assert asyncio.run(complete(Monitor(Registry()), "drive_del ")) == []


def test_files_are_offered_in_quotes_where_they_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.img").touch()
    (tmp_path / "one two.img").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "three.img").touch()
    (tmp_path / ".hidden").touch()
    monkeypatch.chdir(tmp_path)
    tables = one_command("a:F,b:b")
    assert offered("cmd one", tables) == ["cmd one.img"]
    assert offered('cmd "one', tables) == ['cmd "one two.img"', 'cmd "one.img"']
    assert offered("cmd fol", tables) == ["cmd folder/"]
    assert offered("cmd folder/t", tables) == ["cmd folder/three.img"]
    assert offered(f"cmd {tmp_path}/fold", tables) == [f"cmd {tmp_path}/folder/"]
    assert offered("cmd nosuch/", tables) == []
    assert offered("cmd x o", tables) == ["cmd x off", "cmd x on"]


@given(text=st.text(st.sampled_from('migrate-d blk info"/#p x')))
def test_a_suggestion_goes_on_from_what_is_typed(text: str) -> None:
    for suggestion in asyncio.run(complete(Monitor(FakeMachine().registry), text)):
        assert suggestion.text.startswith(text[suggestion.start :])


def test_objects_are_offered_by_type_and_by_id() -> None:
    async def listing() -> list[dict[str, str]]:
        return [{"id": "io0", "qom-type": "iothread"}]

    registry = Registry()
    assert asyncio.run(complete(Monitor(registry), "object_del ")) == []
    registry.add("x-qmon-query-objects", listing)
    for line, choices in (
        ("object_add i", ["iothread"]),
        ("object_add s", ["secret"]),
        ("object_del ", ["io0"]),
    ):
        offered = asyncio.run(complete(Monitor(registry), line))
        assert [suggestion.text for suggestion in offered] == choices
