"""Directives that put the program's own tables into the manual, so that it can't say anything else.

``qmon-commands:: main|info`` is the reference of a command table, ``qmon-options::`` the command line,
``qmon-qmp::`` the commands of the machine protocol, ``qmon-members::`` an enumeration,
``qmon-figures::`` what ``make bench`` measured, and
``qmon-migration-parameters::`` and ``qmon-migration-capabilities::`` the migration's settings. Names get
entries in the index. The man page (``shipped.py``) puts its own text in the place of the first two.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from qmp_reference import qmp_reference
from sphinx.util.docutils import SphinxDirective

from qmon.hmp.tables.manual import reference
from qmon.hmp.tables.table import default_tables
from qmon.migration.capabilities import CAPABILITIES
from qmon.migration.parameters import PARAMETERS, Parameter
from qmon.notation.qapi import default_schema
from qmon.program.option_table import reference as options_reference

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import OptionSpec


class Commands(SphinxDirective):
    """Every command of a table, by sections."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        table = default_tables().main
        path: tuple[str, ...] = ()
        if self.arguments[0] != "main":
            path = (self.arguments[0],)
            command = table.find(path[0])
            if command is None or command.sub_table is None:
                raise self.error(f"expected 'main' or a command with commands of its own, found '{path[0]}'")
            table = command.sub_table
        text = _COMMAND_LABEL.sub(_indexed_command, reference(table, path))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


_COMMAND_LABEL = re.compile(r"^\.\. _command-(?P<name>[^:]+):$", re.MULTILINE)


def _indexed_command(label: re.Match[str]) -> str:
    name = label["name"].replace("info-", "info ", 1)
    return f".. index:: single: {name} (command)\n\n{label[0]}"


class Options(SphinxDirective):
    """The options of the command line."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(options_reference(index=True))


def _literal_words(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|")


class MigrationParameters(SphinxDirective):
    """The parameters of migrations, a row each."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        rows = []
        for row in PARAMETERS:
            name = _named(row.name, row.later, "parameter")
            rows.append((name, f"{_written(row.default)} {row.unit}", _range(row), row.meaning))
        head = ("name", "default", "takes", "meaning")
        return self.parse_text_to_nodes(list_table(head, rows, stacked=True))


def _range(row: Parameter) -> str:
    return " or ".join(row.choices) or row.allowed or row.kind.value


def _written(value: object) -> str:
    if value is None or value == "":
        return "none"
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _named(name: str, later: bool, kind: str) -> str:
    """The first cell of a row, with its entry for the index."""
    return f".. index:: single: {name} ({kind})\n\n       ``{name}``" + (" (QEMU 10's)" if later else "")


class MigrationCapabilities(SphinxDirective):
    """The capabilities of migrations, a row each."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        rows = [(_named(row.name, row.later, "capability"), row.meaning) for row in CAPABILITIES]
        return self.parse_text_to_nodes(list_table(("name", "meaning"), rows, stacked=True))


class QmpReference(SphinxDirective):
    """The commands, events and types of the schema, a section for each file that has some."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        text = qmp_reference(default_schema())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Members(SphinxDirective):
    """The members of an enumeration, each with its number and with the text below it in its source."""

    required_arguments = 2
    has_content = False

    def run(self) -> list[nodes.Node]:
        module, name = self.arguments
        members = getattr(import_module(module), name)
        source = ast.parse(inspect.getsource(members)).body[0]
        assert isinstance(source, ast.ClassDef)
        meanings: dict[str, str] = {}
        for before, after in pairwise(source.body):
            match before, after:
                case ast.Assign([ast.Name(member)]), ast.Expr(ast.Constant(str(text))):
                    meanings[member] = _literal_words(" ".join(text.split()))
        digits = 4 if max(members) > 0xFF else 2
        rows = [(f"``{each.value:0{digits}x}`` {each.name}", meanings.get(each.name, "")) for each in members]
        return self.parse_text_to_nodes(list_table(("number, name", "meaning"), rows))


class Figures(SphinxDirective):
    """A table of figures (``bench.results``), below its plot; with ``:turned:`` its columns are rows."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar[OptionSpec] = {"turned": directives.flag}

    def run(self) -> list[nodes.Node]:
        path = Path(__file__).parent / "figures" / f"{self.arguments[0]}.json"
        self.env.note_dependency(str(path))
        table = json.loads(path.read_text())
        rows = [[""] + [column["title"] for column in table["columns"]]]
        for row in table["rows"]:
            figures = zip(table["columns"], row["figures"], strict=True)
            rows.append(
                [row["name"]]
                + ["" if each is None else column["format"].format(each) for column, each in figures]
            )
        if "turned" in self.options:
            rows = [list(row) for row in zip(*rows, strict=True)]
        lines = [f"Measured {table['measured']}: {table['what']}.", ""]
        if path.with_suffix(".svg").exists():
            lines += [
                f".. image:: figures/{path.stem}.svg",
                f"   :alt: The plot of the table below: {path.stem}",
                "",
            ]
        return self.parse_text_to_nodes("\n".join([*lines, list_table(rows[0], rows[1:])]))


def list_table(head: Iterable[str], rows: Iterable[Iterable[str]], *, stacked: bool = False) -> str:
    """A table as reStructuredText, its first row a heading; ``stacked`` on a narrow screen."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto"]
    lines += ["   :class: stacked", ""] if stacked else [""]
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f"     - {cell}" if number else f"   * - {cell}")
    return "\n".join(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("qmon-commands", Commands)
    app.add_directive("qmon-options", Options)
    app.add_directive("qmon-qmp", QmpReference)
    app.add_directive("qmon-figures", Figures)
    app.add_directive("qmon-members", Members)
    app.add_directive("qmon-migration-parameters", MigrationParameters)
    app.add_directive("qmon-migration-capabilities", MigrationCapabilities)
    return {"parallel_read_safe": True}
