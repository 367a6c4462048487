"""The hint after a line that is being typed: the arguments that may follow, ``[-d] [-b] uri``."""

from __future__ import annotations

from qmon.hmp.line.reading import Reading
from qmon.hmp.tables.signature import Parameter


def hint(reading: Reading) -> str:
    """Return the arguments that may follow a line that is being typed; "" inside a word, or if none may.

    The hint begins with a space after a complete command name.
    """
    text, command, arguments = reading.text, reading.command, reading.arguments
    if reading.end < len(text) or command is None or arguments.bad is not None:
        return ""
    at_name = reading.names[-1].end == len(text)
    if not at_name and not text[-1].isspace():
        return ""
    if command.sub_table is not None:
        return " " * at_name + command.entry.params
    parameters = command.parameters
    read = [parameters.index(piece.parameter) for piece in arguments.pieces if not piece.parameter.is_flag]
    first = max(read, default=-1) + 1
    rest = [*arguments.flags, *(each for each in parameters[first:] if not each.is_flag)]
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
