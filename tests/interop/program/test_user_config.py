"""The configuration file: parameters of the machine, settings of the console, errors of one line."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from qmon.console.settings import Settings, read_settings
from qmon.console.style import PARTS
from tests.support.processes import CHECKOUT
from tests.support.runs import one_line, run
from tests.support.terminal import Terminal

HINT = "(-no-user-config starts without this file)"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in a folder of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "qmon").mkdir()
    return tmp_path / "qmon" / "config.toml"


def parameter(name: str, *options: str) -> str:
    """A parameter's value in a new machine."""
    done = run(*options, "-c", "info migrate_parameters")
    assert (done.returncode, done.stderr) == (0, "")
    found = re.search(rf"^{name}: (.*)$", done.stdout, re.MULTILINE)
    assert found is not None
    return found[1]


def test_parameters_have_the_files_values(config: Path) -> None:
    config.write_text('[parameters]\nmax-bandwidth = "1G"\ndowntime-limit = 500\nblock-incremental = true\n')
    assert parameter("max-bandwidth") == "1073741824 bytes/second"
    assert parameter("downtime-limit") == "500 ms"
    assert parameter("block-incremental") == "on"
    assert parameter("downtime-limit", "-no-user-config") == "300 ms"
    config.unlink()
    assert parameter("downtime-limit") == "300 ms"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[parameters", "not TOML: Expected ']' at the end of a table declaration (at end of document)"),
        ("[parameter]", "parameter: unknown table: did you mean 'parameters'?"),
        ("x = 1", "x: unknown table: use one of console, colours, bindings, parameters"),
        ("parameters = 1", "parameters: expected a table, found 1"),
        (
            "[parameters]\nmax-bandwith = 1",
            "parameters.max-bandwith: unknown parameter: did you mean 'max-bandwidth'?",
        ),
        (
            '[parameters]\nmax-bandwidth = "fast"',
            "parameters.max-bandwidth: 'fast': Invalid size fast",
        ),
        (
            "[parameters]\ndowntime-limit = 1.5",
            "parameters.downtime-limit: expected a text, a number, true or false, found 1.5",
        ),
        (
            "[parameters]\ndowntime-limit = 2000001",
            "parameters.downtime-limit: Parameter 'downtime_limit' expects"
            " an integer in the range of 0 to (2000 * 1000) ms",
        ),
    ],
)
def test_a_wrong_parameter_is_not_ignored(config: Path, text: str, said: str) -> None:
    config.write_text(text)
    assert one_line(run("-c", "stop")) == f"{config}: {said} {HINT}"
    assert run("-no-user-config", "-c", "stop").returncode == 0


def test_bytes_that_are_not_text_are_named(config: Path) -> None:
    config.write_bytes(b"[console]\nkeys = '\xff'\n")
    assert one_line(run("-c", "stop")) == f"{config}: not TOML: byte 18 is not UTF-8 {HINT}"


def test_a_file_that_can_not_be_read_is_told_and_not_used(config: Path) -> None:
    config.mkdir()
    done = run("-c", "info status")
    assert (done.returncode, done.stdout) == (0, "VM status: running\n")
    assert done.stderr == f"qmon: {config}: Is a directory: the configuration file is not used\n"


def test_wrong_settings_of_the_console_do_not_matter_to_a_script(config: Path) -> None:
    config.write_text("[console]\nkeys = 7\n[colours]\nx = 1\n")
    done = run("-c", "info status")
    assert (done.returncode, done.stderr) == (0, "")


# At a terminal


@pytest.fixture
def terminal(config: Path, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux", 200, XDG_CONFIG_HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path))
    yield terminal
    terminal.close()


def start(terminal: Terminal, *options: str) -> None:
    terminal.type(f"clear; {sys.executable} -m qmon {' '.join(options)}\r")
    terminal.wait_for(r"^\(qemu\) $")


def test_the_file_chooses_keys_colours_and_lines_of_keys(config: Path, terminal: Terminal) -> None:
    config.write_text(
        '[console]\nkeys = "vi"\n[colours]\nprompt = "ansimagenta"\n[bindings]\nf5 = "info status"\n'
    )
    start(terminal)
    terminal.wait_whole(lambda screen: screen.endswith("| vi: insert"), "vi's mode")
    terminal.wait_coloured(lambda screen: "\x1b[35m(qemu)" in screen, "the prompt's colour")
    terminal.type("info na")
    terminal.press("F5")
    terminal.wait_for_end("(qemu) info status\nVM status: running\n(qemu) info na")


def test_wrong_settings_are_told_and_the_console_starts(config: Path, terminal: Terminal) -> None:
    config.write_text("[console]\ntoolbr = false\n[colours]\nprompt = 'bold pnik'\n")
    start(terminal)
    screen = terminal.screen()
    assert "config.toml: console.toolbr: unknown key: did you mean 'toolbar'?" in screen
    assert "config.toml: colours.prompt: expected a style such as" in screen


def test_the_toolbar_the_menu_and_suggestions_can_be_turned_off(config: Path, terminal: Terminal) -> None:
    config.write_text("[console]\ntoolbar = false\ncompletion = false\nsuggestions = false\n")
    start(terminal)
    terminal.type("info status\r")
    terminal.wait_for_end("(qemu) info status\nVM status: running\n(qemu) ")
    terminal.type("info s")
    terminal.wait_for_end("(qemu) info s")
    assert terminal.whole().endswith("\n(qemu) info s")
    terminal.press("Tab")
    terminal.wait_for(r"^ +status +show ")


def test_plain_is_an_option_and_a_setting(config: Path, terminal: Terminal) -> None:
    for text, option in (("", "-plain"), ("[console]\nplain = true\n", "")):
        config.write_text(text)
        start(terminal, option)
        terminal.type("info stats_\r")
        terminal.wait_for_end("Did you mean 'info stats'?\n(qemu) ")
        assert "qmon |" not in terminal.whole()
        assert not re.search(r"\x1b\[[0-9;]*[1-9]m", terminal.coloured())
        terminal.type("quit\r")
        terminal.wait_for_end("(qemu) quit\n$ ")


def test_the_manuals_example_is_right_and_complete(config: Path, terminal: Terminal) -> None:
    example = CHECKOUT / "docs" / "config.toml"
    shutil.copy(example, config)
    start(terminal)
    assert "config.toml" not in terminal.screen()
    assert parameter("max-bandwidth") == "1073741824 bytes/second"
    settings, wrong = read_settings(tomllib.loads(example.read_text()))
    assert wrong == []
    assert replace(settings, colours={}, bindings={}) == Settings()
    assert settings.colours == {name: row.usual for name, row in PARTS.items()}
    for key in (each.name for each in fields(Settings)):
        assert key in example.read_text()


def test_a_machine_with_a_name_has_a_history_of_its_own(
    config: Path, terminal: Terminal, tmp_path: Path
) -> None:
    start(terminal, "-name", "a/b")
    terminal.type("info status\rquit\r")
    terminal.wait_for_end("(qemu) quit\n$ ")
    assert (tmp_path / "qmon" / "history-a%2Fb").read_text() == "info status\nquit\n"
    assert not (tmp_path / "qmon" / "history").exists()
