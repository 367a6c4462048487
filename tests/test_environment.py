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

CHECKOUT = Path(__file__).resolve().parent.parent

PYTHON = f"""#!/bin/sh
case "$*" in
*ensurepip*) [ ! -e "$HERE/no-ensurepip" ] ;;
*version_info*) [ -e "$HERE/old" ] && {{ case "$*" in *exit*) exit 1 ;; *) echo 3.9.2 ;; esac; }} ||
    {sys.executable} "$@" ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$HERE/pip" "$3/bin/python" ;;
*) exit 99 ;;
esac
"""
PIP = """#!/bin/sh
[ "$1" = -m ] || exit 0
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
        self.program("id", "#!/bin/sh\necho 0\n")

    def program(self, name: str, text: str) -> None:
        file = self.path / "programs" / name
        file.write_text(text)
        file.chmod(0o755)

    def make(self, *extra: str, python: str = "python") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.path / 'programs'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHON": python,
            "HERE": str(self.path),
        }
        command = [str(self.path / "tools" / "environment"), ".venv", *extra]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)

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


def test_a_missing_package_is_named_where_it_can_not_be_installed(tree: Tree) -> None:
    (tree.path / "no-ensurepip").touch()
    done = tree.make()
    assert done.returncode == 1
    assert done.stderr == "qmon: python3-venv is missing and apt-get could not install it\n"
    tree.program("id", "#!/bin/sh\necho 1000\n")
    done = tree.make()
    assert done.returncode == 1
    assert (
        done.stderr == "qmon: python3-venv is missing: install it as root by: apt-get install python3-venv\n"
    )


def test_a_missing_package_is_installed_by_root(tree: Tree) -> None:
    (tree.path / "no-ensurepip").touch()
    tree.program("apt-get", '#!/bin/sh\ncase "$*" in *python3-venv*) rm -f "$HERE/no-ensurepip" ;; esac\n')
    done = tree.make()
    assert (done.returncode, done.stderr) == (0, "")
    assert tree.made == 1
