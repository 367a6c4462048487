"""What could be written next, in a few words: ``[-d] [-b] uri``."""

from __future__ import annotations

from qmon.hmp.line.arguments import outline_arguments
from qmon.hmp.line.words import comment_start
from qmon.hmp.tables.signature import Parameter
from qmon.hmp.tables.table import Tables, look_up


def hint(tables: Tables, text: str) -> str:
    """The arguments that may follow ``text``, the line up to the cursor; "" inside a word, or when none may.

    Behind a command's whole name it begins with a space.
    """
    if comment_start(text) < len(text):
        return ""
    found = look_up(tables.main, text)
    if found is None or found.command is None:
        return ""
    at_name = found.end == len(text)
    if not at_name and not text[-1].isspace():
        return ""
    if found.command.sub_table is not None:
        return " " * at_name + found.command.entry.params
    outline = outline_arguments(found.command, text, found.start)
    if outline.bad is not None:
        return ""
    parameters = found.command.parameters
    read = [parameters.index(piece.parameter) for piece in outline.pieces if not piece.parameter.is_flag]
    first = max(read, default=-1) + 1
    rest = [*outline.flags, *(each for each in parameters[first:] if not each.is_flag)]
    words = " ".join(_shown(each) for each in rest if each.kind != "/")
    return " " * (at_name and bool(words)) + words


def _shown(parameter: Parameter) -> str:
    name = parameter.key.replace("_", "-")
    if parameter.is_flag:
        value = f" {name}" if parameter.takes_value else ""
        return f"[-{parameter.letter}{value}]"
    if parameter.dotted:
        return f"[. {name}]"
    return f"[{name}]" if parameter.optional else name
