"""Directives that put the program's own tables into the manual, so that it can't say anything else.

``qmon-commands:: main|info`` is the reference of a command table, ``qmon-options::`` the command line, and
``qmon-migration-parameters::`` and ``qmon-migration-capabilities::`` the migration's settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from qmon.hmp.tables.manual import reference
from qmon.hmp.tables.table import default_tables
from qmon.migration.capabilities import CAPABILITIES
from qmon.migration.parameters import PARAMETERS, Parameter
from qmon.program.option_table import OPTIONS, Treatment

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import OptionSpec


class Commands(SphinxDirective):
    """Every command of a table, by sections; with ``:bare:`` without labels, for a second page of them."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar[OptionSpec] = {"bare": directives.flag}

    def run(self) -> list[nodes.Node]:
        table = default_tables().main
        path: tuple[str, ...] = ()
        if self.arguments[0] != "main":
            path = (self.arguments[0],)
            command = table.find(path[0])
            if command is None or command.sub_table is None:
                raise self.error(f"expected 'main' or a command with commands of its own, found '{path[0]}'")
            table = command.sub_table
        text = reference(table, path, labels="bare" not in self.options)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Options(SphinxDirective):
    """The options of the command line."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for option in OPTIONS.values():
            if option.treatment is Treatment.OURS:
                head = f"``-{option.name}``" + (f" ``{option.argument}``" if option.argument else "")
                lines += [head, f"  {_literal_words(option.help)}", ""]
        for title, treatment in (
            ("QEMU's options that are accepted and ignored, with a note:", Treatment.IGNORED),
            ("QEMU's options that are refused:", Treatment.REFUSED),
        ):
            names = sorted(
                (name for name, row in OPTIONS.items() if row.treatment is treatment), key=str.lower
            )
            lines += [title, "  " + " ".join(f"``-{name}``" for name in names), ""]
        return self.parse_text_to_nodes("\n".join(lines))


def _literal_words(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|")


class MigrationParameters(SphinxDirective):
    """The parameters of migrations, a row each."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        rows = [
            (_named(row.name, row.later), row.unit, _written(row.default), _range(row), row.meaning)
            for row in PARAMETERS
        ]
        return self.parse_text_to_nodes(list_table(("name", "unit", "default", "takes", "meaning"), rows))


def _range(row: Parameter) -> str:
    return " or ".join(row.choices) or row.allowed or row.kind.value


def _written(value: object) -> str:
    if value is None or value == "":
        return "none"
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _named(name: str, later: bool) -> str:
    return f"``{name}``" + (" (QEMU 10's)" if later else "")


class MigrationCapabilities(SphinxDirective):
    """The capabilities of migrations, a row each."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        rows = [(_named(row.name, row.later), row.meaning) for row in CAPABILITIES]
        return self.parse_text_to_nodes(list_table(("name", "meaning"), rows))


def list_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as reStructuredText, its first row a heading."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'-' if number else '* -'} {cell}" if not number else f"     - {cell}")
    return "\n".join(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("qmon-commands", Commands)
    app.add_directive("qmon-options", Options)
    app.add_directive("qmon-migration-parameters", MigrationParameters)
    app.add_directive("qmon-migration-capabilities", MigrationCapabilities)
    return {"parallel_read_safe": True}
