"""The line editor of a socket monitor: takes typed characters, returns output for the terminal. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from qmon.notation.plain_text import visible

LINE_MAX = 4095
"""The most characters of a line; more are dropped, as in QEMU."""
HISTORY_MAX = 64
COLUMNS = 80

SHORT_MAX = 128
"""Up to this length each key is echoed singly, as in QEMU. The cost of that is the square of the length."""

_CLEAR_SCREEN = "\x1b[2J\x1b[1;1H"
_DIGITS = frozenset("0123456789")
_PARAMETER_MAX = 1 << 16


class Key(enum.Enum):
    """Keys that the owner of the editor must handle."""

    ENTER = enum.auto()
    TAB = enum.auto()
    CLEAR = enum.auto()


class _State(enum.Enum):
    """The state inside an escape sequence."""

    PLAIN = enum.auto()
    ESCAPE = enum.auto()
    CSI = enum.auto()
    """After ``ESC [``, or after the single character with the same meaning."""
    SS3 = enum.auto()
    """After ``ESC O``."""


_BEHIND_ESCAPE = {"[": _State.CSI, "O": _State.SS3}


class Readline:
    """A line that is being edited, its history, and what the terminal shows of it.

    The keys are those of QEMU 10 (util/readline.c); 7.2 does not have Ctrl-N, Ctrl-P and Ctrl-U. A line
    consists of characters here, of bytes in QEMU.
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
        """Whether the effect of each key is shown singly (SHORT_MAX)."""
        return len(self.line) <= SHORT_MAX

    def feed(self, character: str) -> Key | None:
        """Take one typed character; return a key that the owner must handle, or None."""
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
        """Insert text at the cursor, as much as fits in LINE_MAX."""
        text = text[: LINE_MAX - len(self.line)]
        self.line = self.line[: self.cursor] + text + self.line[self.cursor :]
        self.cursor += len(text)

    def replace(self, start: int, text: str) -> None:
        """Replace the text from ``start`` to the cursor."""
        self.line = self.line[:start] + self.line[self.cursor :]
        self.cursor = start
        self.insert(text)

    def take_line(self) -> str:
        """Return the finished line, add it to the history, and begin a new line.

        An equal older line is removed from the history. A recalled line that was not changed is moved to the
        end; other equal lines stay.
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
            return  # as in QEMU, the recalled line stays the current one
        if equal is not None:
            del self.history[equal]
        self._recalled = None
        self.history.append(line)
        del self.history[:-HISTORY_MAX]

    def show_prompt(self) -> str:
        """Return the output that shows the prompt and the current line."""
        self._shown, self._shown_cursor = "", 0
        self._state = _State.PLAIN
        return self.prompt + self.update()

    def clear_screen(self) -> str:
        """Return the output that clears the terminal and shows the prompt and the line at the top."""
        return _CLEAR_SCREEN + self.show_prompt()

    def update(self) -> str:
        """Return the output that updates the line and the cursor on the terminal."""
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
        """Delete back to the space before the word. As in QEMU, a space at the line's start goes too."""
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
    """Return completions as lines, in as many columns as fit."""
    width = min(max(max(map(len, words)) + 2, 10), COLUMNS)
    per_line = COLUMNS // width
    padded = [word.ljust(width) for word in words]
    return ["".join(padded[start : start + per_line]) for start in range(0, len(padded), per_line)]


def common_prefix(words: Sequence[str]) -> str:
    """Return the longest common beginning of the words."""
    least, most = min(words), max(words)
    length = 0
    while length < len(least) and least[length] == most[length]:
        length += 1
    return least[:length]
