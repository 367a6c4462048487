"""The line editor of a socket monitor: characters in, what the far terminal is to show out. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from qmon.notation.plain_text import visible

LINE_MAX = 4095
"""Characters that a line holds; more are dropped, as QEMU drops them."""
HISTORY_MAX = 64
COLUMNS = 80

SHORT_MAX = 128
"""Up to this length of the line each key is echoed by itself, as in QEMU; that costs its square."""

_CLEAR_SCREEN = "\x1b[2J\x1b[1;1H"
_DIGITS = frozenset("0123456789")
_PARAMETER_MAX = 1 << 16


class Key(enum.Enum):
    """What the owner of the editor has to act upon."""

    ENTER = enum.auto()
    TAB = enum.auto()
    CLEAR = enum.auto()


class _State(enum.Enum):
    """Where in an escape sequence the next character stands."""

    PLAIN = enum.auto()
    ESCAPE = enum.auto()
    CSI = enum.auto()
    """Behind ``ESC [`` or the one character that means the same."""
    SS3 = enum.auto()
    """Behind ``ESC O``."""


_BEHIND_ESCAPE = {"[": _State.CSI, "O": _State.SS3}


class Readline:
    """A line being edited, its history, and what the terminal shows of it.

    The keys are those of QEMU 10 (util/readline.c), which has three more than 7.2, Ctrl-N, Ctrl-P and Ctrl-U,
    and fewer than other editors. A line is of characters here, where QEMU's is of bytes.
    """

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.line = ""
        self.cursor = 0
        self.history: list[str] = []
        self._recalled: int | None = None
        self._shown = ""
        self._shown_cursor = 0
        self._state = _State.PLAIN
        self._parameter = 0

    @property
    def is_short(self) -> bool:
        """Whether each key's effect is shown by itself: that costs the square of the line's length."""
        return len(self.line) <= SHORT_MAX

    def feed(self, character: str) -> Key | None:
        """Take one typed character; say when the owner has to act."""
        match self._state:
            case _State.PLAIN:
                return self._feed_plain(character)
            case _State.ESCAPE:
                self._state = _BEHIND_ESCAPE.get(character, _State.PLAIN)
                if character in _BEHIND_ESCAPE:
                    self._parameter = 0
            case _State.CSI:
                self._feed_csi(character)
            case _State.SS3:
                self._state = _State.PLAIN
                if character == "F":
                    self.cursor = len(self.line)
                elif character == "H":
                    self.cursor = 0
        return None

    def _feed_plain(self, character: str) -> Key | None:
        match character:
            case "\r" | "\n":
                return Key.ENTER
            case "\t":
                return Key.TAB
            case "\x0c":
                return Key.CLEAR
            case "\x1b":
                self._state = _State.ESCAPE
            case "\x9b" | "\udc9b":
                self._state = _State.CSI
            case "\x01":
                self.cursor = 0
            case "\x04":
                self._delete()
            case "\x05":
                self.cursor = len(self.line)
            case "\x08" | "\x7f":
                if self.cursor:
                    self.cursor -= 1
                    self._delete()
            case "\x0e":
                self._recall_newer()
            case "\x10":
                self._recall_older()
            case "\x15":
                self.line = self.line[self.cursor :]
                self.cursor = 0
            case "\x17":
                self._delete_word()
            case _ if character >= " ":
                self.insert(character)
        return None

    def _feed_csi(self, character: str) -> None:
        if character in _DIGITS:
            self._parameter = min(self._parameter * 10 + int(character), _PARAMETER_MAX)
            return
        self._state = _State.PLAIN
        match character:
            case "A" | "F":
                self._recall_older()
            case "B" | "E":
                self._recall_newer()
            case "C":
                self._move(1)
            case "D":
                self._move(-1)
            case "~" if self._parameter == 1:
                self.cursor = 0
            case "~" if self._parameter == 3:
                self._delete()
            case "~" if self._parameter == 4:
                self.cursor = len(self.line)

    def insert(self, text: str) -> None:
        """Insert text at the cursor, as much of it as there is room for."""
        text = text[: LINE_MAX - len(self.line)]
        self.line = self.line[: self.cursor] + text + self.line[self.cursor :]
        self.cursor += len(text)

    def replace(self, start: int, text: str) -> None:
        """Put text in place of what stands from ``start`` to the cursor."""
        self.line = self.line[:start] + self.line[self.cursor :]
        self.cursor = start
        self.insert(text)

    def take_line(self) -> str:
        """The finished line: it goes to the history, an equal older one goes, and a new line begins.

        A recalled line that was not changed goes to the end by itself, equal ones before it or not.
        """
        line = self.line
        self.line, self.cursor = "", 0
        self._shown, self._shown_cursor = "", 0
        if line:
            self._remember(line)
        return line

    def _remember(self, line: str) -> None:
        equal = None
        if self._recalled is not None and self.history[self._recalled] == line:
            equal = self._recalled
        elif line in self.history:
            equal = self.history.index(line)
        if equal == HISTORY_MAX - 1:
            return  # in QEMU what was recalled stays so then
        if equal is not None:
            del self.history[equal]
        self._recalled = None
        self.history.append(line)
        del self.history[:-HISTORY_MAX]

    def show_prompt(self) -> str:
        """What shows the prompt, and behind it the line as it is."""
        self._shown, self._shown_cursor = "", 0
        self._state = _State.PLAIN
        return self.prompt + self.update()

    def clear_screen(self) -> str:
        """What clears the terminal and shows prompt and line on top."""
        return _CLEAR_SCREEN + self.show_prompt()

    def update(self) -> str:
        """What makes the terminal show the line and the cursor as they are now."""
        output = ""
        if self.line != self._shown:
            output = "\x1b[D" * self._shown_cursor + visible(self.line) + "\x1b[K"
            self._shown, self._shown_cursor = self.line, len(self.line)
        distance = self.cursor - self._shown_cursor
        self._shown_cursor = self.cursor
        return output + ("\x1b[C" * distance if distance > 0 else "\x1b[D" * -distance)

    def _move(self, step: int) -> None:
        self.cursor = min(max(self.cursor + step, 0), len(self.line))

    def _delete(self) -> None:
        self.line = self.line[: self.cursor] + self.line[self.cursor + 1 :]

    def _delete_word(self) -> None:
        """Delete up to a space before the cursor's word; one that begins the line goes too, as in QEMU."""
        end = len(self.line[: self.cursor].rstrip(" "))
        start = self.line.rfind(" ", 1, end) + 1
        self.line = self.line[:start] + self.line[self.cursor :]
        self.cursor = start

    def _recall_older(self) -> None:
        number = len(self.history) if self._recalled is None else self._recalled
        if number > 0:
            self._recall(number - 1)

    def _recall_newer(self) -> None:
        if self._recalled is None:
            return
        if self._recalled + 1 < len(self.history):
            self._recall(self._recalled + 1)
        else:
            self._recalled = None
            self.line, self.cursor = "", 0

    def _recall(self, number: int) -> None:
        self._recalled = number
        self.line = self.history[number]
        self.cursor = len(self.line)


def columns(words: Sequence[str]) -> list[str]:
    """Lay out completions as lines, in as many columns as fit."""
    width = min(max(max(map(len, words)) + 2, 10), COLUMNS)
    per_line = COLUMNS // width
    padded = [word.ljust(width) for word in words]
    return ["".join(padded[start : start + per_line]) for start in range(0, len(padded), per_line)]


def common_prefix(words: Sequence[str]) -> str:
    """What all the words begin with."""
    least, most = min(words), max(words)
    length = 0
    while length < len(least) and least[length] == most[length]:
        length += 1
    return least[:length]
