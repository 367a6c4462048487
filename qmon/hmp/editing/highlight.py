"""A line's pieces by what they are, for colours."""

from __future__ import annotations

import enum

from qmon.hmp.editing.judge import is_curable, may_become_a_name
from qmon.hmp.line.arguments import Piece, PieceKind, outline_arguments
from qmon.hmp.line.transcript import prompt_end
from qmon.hmp.line.words import comment_start
from qmon.hmp.tables.table import Tables, look_up, skip_space


class Role(enum.Enum):
    COMMAND = enum.auto()
    FLAG = enum.auto()
    WORD = enum.auto()
    STRING = enum.auto()
    NUMBER = enum.auto()
    COMMENT = enum.auto()
    ERROR = enum.auto()
    TEXT = enum.auto()


_ROLES = {"/": Role.FLAG, "b": Role.WORD} | dict.fromkeys("ilMoT", Role.NUMBER)


def classify(tables: Tables, line: str) -> list[tuple[Role, str]]:
    """Divide a line into pieces with their roles; the pieces join to the line.

    A ``(qemu)`` prompt at its start, white space before it aside, is text. What can't be read is an
    error, with all that is behind it.
    """
    start = prompt_end(line)
    text = line[start:]
    comment = comment_start(text)
    marks = [(start + begin, start + end, role) for begin, end, role in _marks(tables, text[:comment])]
    marks.append((start + comment, len(line), Role.COMMENT))
    pieces = []
    position = 0
    for begin, end, role in marks:
        if begin > position:
            pieces.append((Role.TEXT, line[position:begin]))
        if end > begin:
            pieces.append((role, line[begin:end]))
        position = end
    return pieces


def _marks(tables: Tables, text: str) -> list[tuple[int, int, Role]]:
    found = look_up(tables.main, text)
    if found is None:
        return []
    marks = []
    position = 0
    unknown = Role.ERROR
    if found.command is None and found.end == len(text) and may_become_a_name(tables, found):
        unknown = Role.TEXT
    for number, name in enumerate(found.path, 1):
        position = skip_space(text, position)
        known = found.command is not None or number < len(found.path)
        marks.append((position, position + len(name), Role.COMMAND if known else unknown))
        position += len(name)
    if found.command is None:
        return marks
    outline = outline_arguments(found.command, text, found.start)
    marks += [(piece.start, piece.end, _role(piece, text)) for piece in outline.pieces]
    if outline.bad is not None and not is_curable(found.command, text, found.start):
        marks.append((outline.bad, len(text.rstrip()), Role.ERROR))
    return marks


def _role(piece: Piece, text: str) -> Role:
    if piece.kind is PieceKind.FLAG:
        return Role.FLAG
    if piece.kind is PieceKind.BARE_WORD:
        return Role.WORD
    return _ROLES.get(piece.parameter.kind) or (Role.STRING if text[piece.start] == '"' else Role.TEXT)
