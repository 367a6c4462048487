"""A pygments lexer for monitor lines. It colours words by the roles that the command tables give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexer import Lexer
from pygments.token import Comment, Error, Keyword, Name, Number, String, Text

from qmon.hmp.editing.highlight import Role, classify
from qmon.hmp.line.reading import Reading

TOKENS = {
    Role.COMMAND: Keyword,
    Role.FLAG: Name.Attribute,
    Role.WORD: Name,
    Role.STRING: String,
    Role.NUMBER: Number,
    Role.COMMENT: Comment,
    Role.ERROR: Error,
    Role.TEXT: Text,
}


class HmpLexer(Lexer):
    """Lexer for lines of the human monitor; ``read(line)`` parses a line."""

    name = "QEMU monitor"
    read: Callable[[str], Reading]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, Any, str]]:
        """Yield (offset, token type, text) for each piece of one or more lines."""
        offset = 0
        for line in text.splitlines(keepends=True):
            body = line.rstrip("\r\n")
            for role, piece in classify(self.read(body)):
                yield offset, TOKENS[role], piece
                offset += len(piece)
            if body != line:
                yield offset, Text, line[len(body) :]
                offset += len(line) - len(body)


def prompt_lexer(read: Callable[[str], Reading]) -> PygmentsLexer:
    """Return the lexer for a prompt; ``read(line)`` parses the line being typed."""
    return PygmentsLexer(type("BoundHmpLexer", (HmpLexer,), {"read": staticmethod(read)}))
