"""tools/environment: a half-made environment is not taken for a whole one, and what is missing is named.

The interpreter is a stand-in that makes environments in no time and tells of it; the real thing is run by
every ``make``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

CHECKOUT = Path(__file__).resolve().parent.parent

PYTHON = f"""#!/bin/sh
case "$*" in
*ensurepip*) [ ! -e "$HERE/no-ensurepip" ] ;;
*version_info*) [ -e "$HERE/old" ] && {{ case "$*" in *exit*) exit 1 ;; *) echo 3.9.2 ;; esac; }} ||
    {sys.executable} "$@" ;;
"-m venv --without-pip "*) mkdir -p "$4/bin" && cp "$HERE/pip" "$4/bin/python" ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$HERE/pip" "$3/bin/python" ;;
*) exit 99 ;;
esac
"""
PIP = """#!/bin/sh
case "$1" in
*.whl/pip) shift $(($# - 1)) && echo "$1" >"$HERE/.venv/wheel"; exit ;;
-m) ;;
*) exit 0 ;;
esac
echo "$*" >>"$HERE/made"
[ ! -e "$HERE/pip-fails" ]
"""


class Tree:
    """A checkout's files that count, with programs that stand in for python and apt-get."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "tools").mkdir()
        (path / "programs").mkdir()
        shutil.copy(CHECKOUT / "tools" / "environment", path / "tools")
        for name in ("setup.cfg", "pyproject.toml"):
            (path / name).write_text("")
        (path / "pip").write_text(PIP)
        (path / "pip").chmod(0o755)
        self.program("python", PYTHON)
        self.program("apt-get", "#!/bin/sh\nexit 100\n")

    def program(self, name: str, text: str) -> None:
        file = self.path / "programs" / name
        file.write_text(text)
        file.chmod(0o755)

    def make(
        self, *extra: str, python: str = "python", path: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": path or f"{self.path / 'programs'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHON": python,
            "HERE": str(self.path),
        }
        command = [str(self.path / "tools" / "environment"), ".venv", *extra]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)

    @property
    def made(self) -> int:
        """How often an environment was filled."""
        log = self.path / "made"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_an_environment_is_made_once(tree: Tree) -> None:
    for _ in range(3):
        assert tree.make().returncode == 0
    assert tree.made == 1


def test_one_for_the_checks_serves_the_demo_and_not_the_other_way_round(tree: Tree) -> None:
    for extra, made in (((), 1), (("test",), 2), ((), 2), (("test",), 2)):
        assert tree.make(*extra).returncode == 0
        assert tree.made == made


@pytest.mark.parametrize("name", ["setup.cfg", "pyproject.toml"])
def test_what_it_was_made_of_has_changed(tree: Tree, name: str) -> None:
    tree.make()
    (tree.path / name).write_text("# changed\n")
    assert tree.make().returncode == 0
    assert tree.made == 2


def test_one_that_failed_half_way_is_made_anew(tree: Tree) -> None:
    (tree.path / "pip-fails").touch()
    assert tree.make().returncode != 0
    (tree.path / ".venv" / "leftover").touch()
    (tree.path / "pip-fails").unlink()
    assert tree.make().returncode == 0
    assert tree.made == 2
    assert not (tree.path / ".venv" / "leftover").exists()


def test_a_whole_one_that_can_not_be_replaced_is_not_kept_for_whole(tree: Tree) -> None:
    tree.make()
    (tree.path / "pip-fails").touch()
    assert tree.make("test").returncode != 0
    (tree.path / "pip-fails").unlink()
    assert tree.make().returncode == 0
    assert tree.made == 3


def test_one_that_was_moved_is_made_anew(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    tree.make()
    old, tree.path = tree.path, tmp_path_factory.mktemp("moved") / "tree"
    shutil.copytree(old, tree.path)
    assert tree.make().returncode == 0
    assert tree.made == 2


def test_an_old_python_is_told_in_one_line(tree: Tree) -> None:
    (tree.path / "old").touch()
    done = tree.make()
    assert done.returncode == 1
    assert done.stderr == "qmon: python is Python 3.9.2: 3.11 or later is needed, set PYTHON= to one\n"


def test_no_python_is_told_in_one_line(tree: Tree) -> None:
    done = tree.make(python="no-such-python")
    assert done.returncode == 1
    assert done.stderr.startswith("qmon: no-such-python is not there: ")
    assert done.stderr.count("\n") == 1


APT_GET = """#!/bin/sh
case "$*" in *"download python3-pip-whl") echo >package.deb ;; esac
"""
DPKG_DEB = """#!/bin/sh
mkdir -p "$3/usr/share/python-wheels" && echo >"$3/usr/share/python-wheels/pip-1.whl"
"""


def test_without_ensurepip_pip_comes_from_a_package_that_nobody_has_to_install(tree: Tree) -> None:
    (tree.path / "no-ensurepip").touch()
    tree.program("apt-get", APT_GET)
    tree.program("dpkg-deb", DPKG_DEB)
    done = tree.make()
    assert (done.returncode, done.stderr) == (0, "")
    assert "python3-venv is missing" in done.stdout
    wheel = tree.path / ".venv" / "wheel"
    assert wheel.read_text().endswith("/usr/share/python-wheels/pip-1.whl\n")
    assert not Path(wheel.read_text().strip()).exists(), "what was read for it is left behind"
    assert tree.made == 1


def test_where_that_package_can_not_be_had_what_to_install_is_named(tree: Tree) -> None:
    (tree.path / "no-ensurepip").touch()
    done = tree.make()
    assert done.returncode == 1
    assert done.stderr == (
        "qmon: python3-venv is missing, and apt-get can't read python3-pip-whl in its place: "
        "install python3-venv as root\n"
    )
    assert tree.made == 0


def test_where_there_is_no_such_package_the_module_is_named(tree: Tree) -> None:
    (tree.path / "no-ensurepip").touch()
    programs = tree.path / "programs"
    (programs / "apt-get").unlink()
    for name in ("sh", "cat", "cp", "dirname", "mkdir", "rm", "sha256sum"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    done = tree.make(path=str(programs))
    assert done.returncode == 1
    assert done.stderr == (
        "qmon: python has no module ensurepip: install it, or set PYTHON= to one that has\n"
    )
