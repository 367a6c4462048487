"""Makes what the wheel installs beside the package: the man page, from ``man.rst``, and the completions.

``python docs/shipped.py FOLDER`` makes them there. Needs docutils, but nothing that qmon needs to run.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docutils.core import publish_string

from qmon.hmp.tables.manual import reference
from qmon.hmp.tables.table import default_tables
from qmon.program.completions import SHELLS
from qmon.program.option_table import reference as options_reference
from qmon.version import VERSION

_DIRECTIVE = re.compile(r"^\.\. qmon-(options|commands)::(?: (\w+))?$", re.MULTILINE)

_HEAD = f"""\
====
qmon
====

----------------------------------------------
the QEMU human monitor as a program of its own
----------------------------------------------

:Manual section: 1
:Manual group: qmon
:Version: {VERSION}
"""

FILES = {"bash": "qmon", "zsh": "_qmon", "fish": "qmon.fish"}
"""The names under which the shells find their completions."""


def man_page() -> str:
    """Return the page, to be read by man."""
    body = (Path(__file__).parent / "man.rst").read_text(encoding="utf-8")
    text = _HEAD + "\n" + _DIRECTIVE.sub(_table, body)
    settings = {"output_encoding": "unicode", "report_level": 2, "halt_level": 2}
    page = publish_string(text, writer="manpage", settings_overrides=settings)
    assert isinstance(page, str)
    return page


def _table(directive: re.Match[str]) -> str:
    kind, name = directive.groups()
    if kind == "options":
        return options_reference(index=False)
    table = default_tables().main
    if name != "main":
        command = table.find(name)
        assert command is not None
        assert command.sub_table is not None
        table = command.sub_table
    return reference(table, labels=False)


def make(folder: Path) -> None:
    """Write the files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "qmon.1").write_text(man_page(), encoding="utf-8")
    for shell, name in FILES.items():
        (folder / name).write_text(SHELLS[shell]() + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
