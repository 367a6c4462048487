"""Highlighting: divides a line into pieces with roles, which the console colours."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from qmon.hmp.line.arguments import Piece, PieceKind
from qmon.hmp.line.reading import Reading


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


def classify(reading: Reading) -> list[tuple[Role, str]]:
    """Divide a line that is being typed into pieces with their roles; the pieces join to the line.

    A ``(qemu)`` prompt at its start is text. From the first piece on that can't be read, all is an error.
    """
    line = reading.text
    pieces = []
    position = 0
    for begin, end, role in [*_marks(reading), (reading.end, len(line), Role.COMMENT)]:
        if begin > position:
            pieces.append((Role.TEXT, line[position:begin]))
        if end > begin:
            pieces.append((role, line[begin:end]))
        position = end
    return pieces


def _marks(reading: Reading) -> Iterator[tuple[int, int, Role]]:
    for number, name in enumerate(reading.names, 1):
        is_known = reading.command is not None or number < len(reading.names)
        unknown = Role.TEXT if not is_known and reading.is_curable else Role.ERROR
        yield name.start, name.end, Role.COMMAND if is_known else unknown
    for piece in reading.arguments.pieces:
        yield piece.start, piece.end, _role(piece, reading.text)
    if reading.arguments.bad is not None and not reading.is_curable:
        yield reading.arguments.bad, len(reading.text[: reading.end].rstrip()), Role.ERROR


def _role(piece: Piece, text: str) -> Role:
    if piece.kind is PieceKind.FLAG:
        return Role.FLAG
    if piece.kind is PieceKind.BARE_WORD:
        return Role.WORD
    return _ROLES.get(piece.parameter.kind) or (Role.STRING if text[piece.start] == '"' else Role.TEXT)
