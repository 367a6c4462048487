"""Reads ``.hx`` command tables, qmon's and those of any QEMU release: text to entries.

A file contains entries, which are C initialisers, and between them documentation blocks (``SRST``/``ERST``,
before QEMU 5.0 ``STEXI``/``ETEXI``; in 2010 also ``SQMP``/``EQMP``, notes on QMP), ``HXCOMM`` comments and
preprocessor lines. Entries of early 2009 are positional: ``{ "names", "types", function, "params", "help"
}``. In a condition inside an entry, the first branch that is not ``#if 0`` is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from qmon.errors import QmonError


class HxError(QmonError):
    """A table can't be read: ``FILE:LINE: what was expected``."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(f"{file}:{line}: {problem}")
        self.file = file
        self.line = line


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of a table; with ``handler`` None it is known but not available."""

    name: str
    args_type: str = ""
    params: str = ""
    help: str = ""
    handler: str | None = None
    sub_table: str | None = None
    flags: str = ""
    coroutine: bool = False
    completion: str | None = None
    others: dict[str, str] = field(default_factory=dict)
    """Other fields of QEMU's entries (``user_print``, ``cmd_info_hrt``, …), by name."""
    conditions: tuple[str, ...] = ()
    """The preprocessor conditions around it, outermost first: ``defined(TARGET_I386)``."""
    documentation: str = ""
    heading: str = ""
    """Its section of the manual: the last ``DEFHEADING`` above it."""
    line: int = 0

    @property
    def disabled(self) -> bool:
        """Whether it is inside ``#if 0``; some distributions remove commands so."""
        return "0" in self.conditions or "!(1)" in self.conditions

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the command, the first one first."""
        return tuple(self.name.split("|"))


_DOCUMENTATION = {"SRST": "ERST", "STEXI": "ETEXI", "SQMP": "EQMP"}
_DIRECTIVE = re.compile(r"(?:HXCOMM|SRST|ERST|STEXI|ETEXI|SQMP|EQMP|DEFHEADING|ARCHHEADING)\b")
_HEADING = re.compile(r"DEFHEADING\((.*?):?\)")
_CONDITIONAL = re.compile(r"#\s*(ifdef|ifndef|if|elif|else|endif)\b\s*(.*)")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<designator>\.[A-Za-z_][\w.]*)
      | (?P<word>[A-Za-z_0-9][\w]*)
      | (?P<mark>[{},=|&])""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"""(?P<string>"(?:[^"\\]|\\.)*"?)|(?P<line>//.*)|(?P<start>/\*)""")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]+|[0-7]{1,3}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
_POSITIONS = (".name", ".args_type", ".cmd", ".params", ".help")
_STRINGS = {
    ".name": "name",
    ".args_type": "args_type",
    ".params": "params",
    ".help": "help",
    ".flags": "flags",
}
_WORDS = {
    ".cmd": "handler",
    ".mhandler.cmd": "handler",
    ".mhandler.cmd_new": "handler",
    ".mhandler.cmd_async": "handler",
    ".mhandler.info": "handler",
    ".mhandler.info_new": "handler",
    ".mhandler.info_async": "handler",
    ".sub_table": "sub_table",
    ".command_completion": "completion",
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class _Branch:
    """A condition inside an entry: whether its current branch is used, and whether any was used so far."""

    kept: bool
    taken: bool
    line: int


def read(text: str, file: str) -> list[Entry]:
    """Read a whole table. Raises HxError, with ``file`` as the name of the text."""
    return _Reader(text, file).entries()


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._lines = iter(enumerate(text.replace("\r\n", "\n").split("\n"), 1))
        self._comment: int | None = None
        """The line where an unfinished comment has begun."""
        self._conditions: list[tuple[str, int]] = []
        self._found: list[Entry] = []
        self._heading = ""

    def entries(self) -> list[Entry]:
        while found := self._joined_line():
            number, line = found
            stripped = line.strip()
            directive = _DIRECTIVE.match(line)
            if directive:
                self._directive(directive[0], line, number)
            elif stripped.startswith("#"):
                self._condition(stripped, number)
            elif stripped.startswith("{"):
                self._entry(number, line)
            elif stripped.startswith((".", "}", '"')):
                raise HxError(self._file, number, f"expected '{{' before '{stripped}'")
        if self._comment is not None:
            raise HxError(self._file, self._comment, "expected '*/' for '/*', found the end of the file")
        if self._conditions:
            condition, number = self._conditions[-1]
            problem = f"expected '#endif' for '{condition}', found the end of the file"
            raise HxError(self._file, number, problem)
        return self._found

    def _joined_line(self) -> tuple[int, str] | None:
        """Return the next line without C comments, and its number.

        As in C, a line that ends with a backslash continues in the next; marks such as SRST come first.
        """
        number, text = next(self._lines, (0, ""))
        if not number:
            return None
        if _DIRECTIVE.match(text):
            return number, text
        while text.endswith("\\"):
            _, more = next(self._lines, (0, ""))
            text = text[:-1] + more
        return number, self._without_comments(text, number)

    def _without_comments(self, text: str, number: int) -> str:
        kept = ""
        position = 0
        while position < len(text):
            if self._comment is not None:
                end = text.find("*/", position)
                if end < 0:
                    return kept
                self._comment = None
                position = end + 2
                kept += " "
                continue
            match = _COMMENT.search(text, position)
            if match is None:
                return kept + text[position:]
            kept += text[position : match.start()]
            position = match.end()
            if match["string"]:
                kept += match["string"]
            elif match["start"]:
                self._comment = number
        return kept

    def _directive(self, word: str, line: str, number: int) -> None:
        if word == "DEFHEADING":
            heading = _HEADING.match(line)
            if heading is None:
                raise HxError(self._file, number, "expected 'DEFHEADING(text)'")
            self._heading = heading[1]
        elif word in _DOCUMENTATION:
            end = _DOCUMENTATION[word]
            block = []
            for place, inner in self._lines:
                if inner.startswith(end):
                    break
                if (mark := _DIRECTIVE.match(inner)) and mark[0] in _DOCUMENTATION:
                    raise HxError(self._file, place, f"expected '{end}' before '{mark[0]}'")
                block.append(inner)
            else:
                raise HxError(self._file, number, f"expected '{end}' for '{word}', found the end of the file")
            if self._found and block and word != "SQMP":
                last = self._found[-1]
                known = last.documentation + "\n" if last.documentation else ""
                self._found[-1] = replace(last, documentation=known + "\n".join(block))
        elif word in _DOCUMENTATION.values():
            start = next(key for key, value in _DOCUMENTATION.items() if value == word)
            raise HxError(self._file, number, f"expected '{start}' before '{word}'")

    def _condition(self, line: str, number: int) -> None:
        match = _CONDITIONAL.match(line)
        if match is None:
            return
        word, condition = match[1], match[2].strip()
        if word in ("if", "ifdef", "ifndef"):
            wrapped = {"ifdef": f"defined({condition})", "ifndef": f"!defined({condition})"}
            self._conditions.append((wrapped.get(word, condition), number))
            return
        if not self._conditions:
            raise HxError(self._file, number, f"expected '#if' before '#{word}'")
        before, _ = self._conditions.pop()
        if word == "else":
            self._conditions.append((f"!({before})", number))
        elif word == "elif":
            self._conditions.append((f"!({before}) && ({condition})", number))

    def _entry(self, number: int, line: str) -> None:
        conditions = tuple(condition for condition, _ in self._conditions)
        fields = _fields(_Tokens(self._entry_tokens(number, line), self._file, number))
        values: dict[str, str] = {}
        others: dict[str, str] = {}
        for designator, token in fields.items():
            key = _STRINGS.get(designator) or _WORDS.get(designator)
            if designator in _STRINGS and token.kind != "string" and designator != ".flags":
                raise HxError(self._file, token.line, f"expected a string for '{designator}'")
            if key:
                values[key] = token.text
            else:
                others[designator[1:]] = token.text
        if not values.get("name"):
            raise HxError(self._file, number, "expected a '.name' in the entry")
        completion = values.pop("completion", None)
        coroutine = others.pop("coroutine", "false") == "true"
        handler = values.pop("handler", None)
        sub_table = values.pop("sub_table", None)
        self._found.append(
            Entry(
                **values,
                handler=None if handler == "NULL" else handler,
                sub_table=None if sub_table == "NULL" else sub_table,
                completion=completion,
                coroutine=coroutine,
                others=others,
                conditions=conditions,
                heading=self._heading,
                line=number,
            )
        )

    def _entry_tokens(self, number: int, line: str) -> Iterator[_Token]:
        """Yield the tokens up to the brace that closes the entry; of a condition, only the branch in use."""
        inside: list[_Branch] = []
        text = line
        start = number
        while True:
            if text.lstrip().startswith("#"):
                self._inner_condition(text.strip(), number, inside)
            elif _DIRECTIVE.match(text):
                if not text.startswith("HXCOMM"):
                    raise HxError(self._file, number, f"expected '}}' of the entry before '{text.strip()}'")
            elif all(branch.kept for branch in inside):
                tokens = self._tokens(text, number)
                for token in tokens:
                    yield token
                    if token.text == "}" and token.kind == "mark":
                        if inside:
                            raise HxError(self._file, inside[-1].line, "expected '#endif' before '}'")
                        if "".join(rest.text for rest in tokens) not in ("", ","):
                            raise HxError(self._file, number, "expected a new line after '},'")
                        return
            found = self._joined_line()
            if found is None:
                raise HxError(self._file, start, "expected '}' of the entry, found the end of the file")
            number, text = found

    def _inner_condition(self, line: str, number: int, inside: list[_Branch]) -> None:
        match = _CONDITIONAL.match(line)
        if match is None:
            return
        word, can_be = match[1], match[2].strip() != "0"
        if word in ("if", "ifdef", "ifndef"):
            inside.append(_Branch(can_be, can_be, number))
        elif not inside:
            raise HxError(self._file, number, f"expected '#if' before '#{word}'")
        elif word == "endif":
            inside.pop()
        else:
            kept = can_be and not inside[-1].taken
            inside[-1] = _Branch(kept, kept or inside[-1].taken, number)

    def _tokens(self, line: str, number: int) -> Iterator[_Token]:
        position = 0
        while position < len(line):
            match = _TOKEN.match(line, position)
            if match is None:
                rest = line[position:].strip()
                expected = "a closing '\"'" if rest.startswith('"') else "a field, a value or '}'"
                raise HxError(self._file, number, f"expected {expected} at '{rest}'")
            kind = str(match.lastgroup)
            if kind == "string":
                yield _Token(kind, unescape(match[0][1:-1]), number)
            elif kind != "space":
                yield _Token(kind, match[0], number)
            position = match.end()


class _Tokens:
    """Tokens, with a look at the next one."""

    def __init__(self, tokens: Iterator[_Token], file: str, line: int) -> None:
        self._tokens = tokens
        self._file = file
        self._line = line
        self.ahead = next(tokens)

    def take(self) -> _Token:
        token = self.ahead
        self._line = token.line
        self.ahead = next(self._tokens, _Token("end", "", token.line))
        return token

    def expect(self, mark: str, what: str = "") -> None:
        token = self.take()
        if token.kind != "mark" or token.text != mark:
            raise self.error(what or f"'{mark}'", token)

    def error(self, expected: str, token: _Token) -> HxError:
        found = "the end of the entry" if token.kind == "end" else f"'{token.text}'"
        return HxError(self._file, token.line, f"expected {expected}, found {found}")


def _fields(tokens: _Tokens) -> dict[str, _Token]:
    fields: dict[str, _Token] = {}
    tokens.expect("{")
    position = 0
    while tokens.ahead.text != "}" or tokens.ahead.kind == "string":
        designator = tokens.ahead
        if designator.kind == "designator":
            tokens.take()
            tokens.expect("=", f"'=' after '{designator.text}'")
            name = designator.text
        elif position < len(_POSITIONS) and (position or designator.kind == "string"):
            name = _POSITIONS[position]
            position += 1
        else:
            raise tokens.error("a field such as '.name'", designator)
        if name in fields:
            raise tokens.error(f"'{name}' once in the entry", designator)
        fields[name] = _value(tokens)
        if tokens.ahead.kind != "mark" or tokens.ahead.text != "}":
            tokens.expect(",", "',' or '}'")
    tokens.take()
    return fields


def _value(tokens: _Tokens) -> _Token:
    """Read a value: a string of one or more literals, a word, or flags joined by ``|``."""
    first = tokens.take()
    if first.kind == "string":
        text = first.text
        while tokens.ahead.kind == "string":
            text += tokens.take().text
        return _Token("string", text, first.line)
    if first.kind != "word":
        raise tokens.error("a string or a name", first)
    text = first.text
    while tokens.ahead.kind == "mark" and tokens.ahead.text in "|&":
        text += tokens.take().text
        word = tokens.take()
        if word.kind != "word":
            raise tokens.error("a name", word)
        text += word.text
    return _Token("word", text, first.line)


def unescape(literal: str) -> str:
    """Return the text of a C string literal, given without its quotes."""

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16) & 0xFF)
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        return _ESCAPES.get(code, code)

    return _ESCAPE.sub(one, literal)
