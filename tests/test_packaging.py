"""What is shipped works by itself: built, installed in an empty environment, run away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qmon.version import VERSION
from tests.support.peers import require

CHECKOUT = Path(__file__).resolve().parent.parent
SHIPPED = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.rst", "LICENSE")
TABLES = {"hmp-commands.hx", "hmp-commands-info.hx", "help.rst", "qmp/control.json"}
HEAVY = {"asyncio", "prompt_toolkit", "pygments", "qemu", "xxhash", "importlib.metadata"}

pytestmark = pytest.mark.timeout(1500)  # packages are downloaded


@dataclass(frozen=True, slots=True)
class Installed:
    """A virtual environment with nothing but qmon and what it asks for."""

    bin: Path
    away: Path
    """An empty folder, to run in."""

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, or one elsewhere by its whole path."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.away,
            env={**clean, "HOME": str(self.away), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
        )

    def pip_install(self, *what: str) -> None:
        # the checks' own pip: the environment would have one only where Python has ensurepip
        pip = (sys.executable, "-m", "pip", "--python", str(self.bin / "python"))
        done = self.run(*pip, "install", "-q", *what)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git holds of the package, with no trace of an earlier build."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SHIPPED:
        shutil.copy(CHECKOUT / name, tree)
    leave = shutil.ignore_patterns("__pycache__", "_build")
    for name in ("qmon", "spec", "docs", "tests"):
        shutil.copytree(CHECKOUT / name, tree / name, symlinks=True, ignore=leave)
    return tree


@pytest.fixture
def built(tree: Path) -> Path:
    """The folder with the source archive, and the wheel that was built from that archive."""
    command = [sys.executable, "-m", "build", str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return tree / "dist"


@pytest.fixture
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The wheel, installed with its dependencies from where pip is told to find them."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "environment", with_pip=False)
    away = folder / "away"
    away.mkdir()
    installed = Installed(folder / "environment" / "bin", away)
    installed.pip_install(*map(str, built.glob("*.whl")))
    yield installed
    shutil.rmtree(folder)


def archives_hold_the_command_tables(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        in_source = set(archive.getnames())
    for name in TABLES:
        assert f"qmon/spec/{name}" in in_wheel
        assert f"qmon-{VERSION}/qmon/spec/{name}" in in_source
    assert "qmon/py.typed" in in_wheel
    assert not [name for name in in_wheel if name.startswith(("tests", "bench"))]


def man_page_and_completions_are_where_they_are_looked_for(installed: Installed) -> None:
    share = installed.bin.parent / "share"
    page = (share / "man" / "man1" / "qmon.1").read_text()
    for words in ("-keep-going", "migrate_set_parameter", "info migrate", "config.toml"):
        assert words in page.replace("\\-", "-")
    for shell, path in (
        ("bash", "bash-completion/completions/qmon"),
        ("zsh", "zsh/site-functions/_qmon"),
        ("fish", "fish/vendor_completions.d/qmon.fish"),
    ):
        assert (share / path).read_text() == installed.run("qmon", "-completion", shell).stdout


def man_page_is_read_without_a_warning(installed: Installed) -> None:
    page = installed.bin.parent / "share" / "man" / "man1" / "qmon.1"
    done = installed.run(
        str(shutil.which("man")), "--warnings", "-l", str(page), MANWIDTH="80", LC_ALL="C.UTF-8"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "qmon - the QEMU human monitor as a program of its own" in done.stdout


def installed_program_says_its_version(installed: Installed) -> None:
    done = installed.run("qmon", "-version")
    assert (done.returncode, done.stderr) == (0, "")
    assert VERSION in done.stdout


def reading_the_options_imports_nothing_heavy(installed: Installed, option: str) -> None:
    done = installed.run("qmon", option, PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "qmon.program.options" in imported
    assert not {name for name in imported if name in HEAVY or name.partition(".")[0] in HEAVY}


def installed_program_runs_a_script(installed: Installed) -> None:
    script = installed.away / "script"
    script.write_text("info version  # by the table that travels along\nhelp migrate\n")
    done = installed.run("qmon", "-script", str(script))
    assert (done.returncode, done.stderr) == (0, "")
    assert VERSION in done.stdout
    assert "migrate [-d]" in done.stdout


def install_from_the_tree_runs_too(installed: Installed, tree: Path, how: tuple[str, ...]) -> None:
    """It replaces the wheel's installation."""
    installed.pip_install("--force-reinstall", "--no-deps", *how, str(tree))
    where = installed.run("python", "-c", "import qmon; print(qmon.__path__[0])")
    assert Path(where.stdout.strip()).is_relative_to(tree) is bool(how)
    script = installed.away / "script"
    script.write_text("help migrate\n")
    done = installed.run("qmon", "-script", str(script))
    assert (done.returncode, done.stderr) == (0, "")
    assert "migrate [-d]" in done.stdout


def test_what_is_shipped_works_by_itself(built: Path, installed: Installed, tree: Path) -> None:
    """One test, as several workers would each build and install the package."""
    archives_hold_the_command_tables(built)
    man_page_and_completions_are_where_they_are_looked_for(installed)
    if shutil.which("man"):
        man_page_is_read_without_a_warning(installed)
    installed_program_says_its_version(installed)
    for option in ("-version", "-h", "-no-such-option"):
        reading_the_options_imports_nothing_heavy(installed, option)
    installed_program_runs_a_script(installed)
    for how in ((), ("-e",)):
        install_from_the_tree_runs_too(installed, tree, how)
    require("man")  # last, as the rest needs none
