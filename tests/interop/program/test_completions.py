"""``-completion``: each shell completes the options, their words and files, and learns nothing by heart."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.program.completions import SHELLS
from qmon.program.option_table import OPTIONS, Treatment
from tests.support.peers import require
from tests.support.runs import one_line, run
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE

OURS = {name for name, option in OPTIONS.items() if option.treatment is Treatment.OURS}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_is_in_the_script(shell: str) -> None:
    done = run("-completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    words = set(done.stdout.replace("'*-", "-").replace("[", " ").replace('"', " ").split())
    assert {f"-{name}" for name in OURS} <= words or {f"{name}" for name in OURS} <= words


def test_another_shell_is_refused() -> None:
    assert one_line(run("-completion", "ksh")) == "-completion ksh: use one of bash, zsh, fish"


def completed_by_bash(tmp_path: Path, word: str, before: str = "qmon") -> list[str]:
    script = tmp_path / "qmon"
    script.write_text(SHELLS["bash"]())
    driver = f'. {script}; _qmon qmon "$1" "$2"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-uc", driver, "-", word, before], capture_output=True, text=True, timeout=3 * PATIENCE
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_options_and_words(tmp_path: Path) -> None:
    assert completed_by_bash(tmp_path, "-pid") == ["-pidfile"]
    assert completed_by_bash(tmp_path, "--pid") == ["--pidfile"]
    assert {f"-{name}" for name in OURS} == set(completed_by_bash(tmp_path, "-"))
    assert completed_by_bash(tmp_path, "", "-completion") == ["bash", "zsh", "fish"]
    assert completed_by_bash(tmp_path, "disk") == []


def test_fish_completes_options_words_and_files(tmp_path: Path) -> None:
    require("fish")
    script = tmp_path / "qmon.fish"
    script.write_text(SHELLS["fish"]())
    (tmp_path / "disk.img").touch()

    def completed(line: str) -> list[str]:
        command = ["fish", "--no-config", "-c", f"source {script}; complete -C {shlex.quote(line)}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE, cwd=tmp_path)
        assert done.stderr == ""
        return [row.partition("\t")[0] for row in done.stdout.splitlines()]

    assert completed("qmon -pid") == ["-pidfile"]
    assert sorted(completed("qmon -completion ")) == ["bash", "fish", "zsh"]
    assert completed("qmon -drive file=di") == ["file=disk.img"]
    assert completed("qmon -hda di") == ["disk.img"]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux")
    terminal.type(f"cd {tmp_path}\r")
    yield terminal
    terminal.close()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_typed_line_is_completed(terminal: Terminal, tmp_path: Path, shell: str) -> None:
    require(shell)
    (tmp_path / "disk.img").touch()
    if shell == "bash":
        (tmp_path / "script").write_text(SHELLS[shell]())
        terminal.type(". ./script; clear\r")
    else:
        (tmp_path / "_qmon").write_text(SHELLS[shell]())
        terminal.type(f"exec {shutil.which('zsh')} -f\r")
        terminal.type(f"PS1='$ '; fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; clear\r")
    terminal.wait_until(lambda screen: screen == "$ ", "an empty screen")
    for typed, completed in (
        ("qmon -pid\t", "qmon -pidfile"),
        ("qmon -completion z\t", "qmon -completion zsh"),
        ("qmon -drive file=di\t", "qmon -drive file=disk.img"),
        ("qmon -incoming unix:di\t", "qmon -incoming unix:disk.img"),
    ):
        terminal.type(typed)
        terminal.wait_for_end(f"$ {completed}")
        terminal.press("C-u")
        terminal.wait_for_end("$ ")
