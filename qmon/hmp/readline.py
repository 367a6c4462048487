"""The line editor of a socket monitor: characters in, what the far terminal is to show out. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Sequence

LINE_MAX = 4095
"""Characters that a line holds; more are dropped, as QEMU drops them."""
HISTORY_MAX = 64
COLUMNS = 80

_CLEAR_SCREEN = "\x1b[2J\x1b[1;1H"
_ESCAPE = "\x1b"


class Key(enum.Enum):
    """What the owner of the editor has to act upon."""

    ENTER = enum.auto()
    TAB = enum.auto()
    CLEAR = enum.auto()


class Readline:
    """A line being edited, its history, and what the terminal shows of it."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.line = ""
        self.cursor = 0
        self.history: list[str] = []
        self._recalled: int | None = None
        self._shown = ""
        self._shown_cursor = 0
        self._sequence = ""

    def feed(self, character: str) -> Key | None:
        """Take one typed character; say when the owner has to act."""
        if self._sequence:
            self._feed_sequence(character)
            return None
        match character:
            case "\r" | "\n":
                return Key.ENTER
            case "\t":
                return Key.TAB
            case "\x0c":
                return Key.CLEAR
            case "\x1b":
                self._sequence = _ESCAPE
            case "\x01":
                self.cursor = 0
            case "\x02":
                self._move(-1)
            case "\x04":
                self._delete()
            case "\x05":
                self.cursor = len(self.line)
            case "\x06":
                self._move(1)
            case "\x08" | "\x7f":
                if self.cursor:
                    self.cursor -= 1
                    self._delete()
            case "\x0b":
                self.line = self.line[: self.cursor]
            case "\x0e":
                self._recall(1)
            case "\x10":
                self._recall(-1)
            case "\x15":
                self.line = self.line[self.cursor :]
                self.cursor = 0
            case "\x17":
                self._delete_word()
            case _ if character >= " ":
                self.insert(character)
        return None

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
        """The finished line: it goes to the history, an equal older one goes, and a new line begins."""
        line = self.line
        self._start_over()
        if line:
            if line in self.history:
                self.history.remove(line)
            self.history.append(line)
            del self.history[:-HISTORY_MAX]
        return line

    def show_prompt(self) -> str:
        """What shows the prompt, and behind it the line as it is."""
        self._shown, self._shown_cursor = "", 0
        return self.prompt + self.update()

    def clear_screen(self) -> str:
        """What clears the terminal and shows prompt and line on top."""
        return _CLEAR_SCREEN + self.show_prompt()

    def update(self) -> str:
        """What makes the terminal show the line and the cursor as they are now."""
        output = ""
        if self.line != self._shown:
            output = "\x1b[D" * self._shown_cursor + self.line + "\x1b[K"
            self._shown, self._shown_cursor = self.line, len(self.line)
        distance = self.cursor - self._shown_cursor
        self._shown_cursor = self.cursor
        return output + ("\x1b[C" * distance if distance > 0 else "\x1b[D" * -distance)

    def _start_over(self) -> None:
        self.line, self.cursor = "", 0
        self._shown, self._shown_cursor = "", 0
        self._recalled = None

    def _move(self, step: int) -> None:
        self.cursor = min(max(self.cursor + step, 0), len(self.line))

    def _delete(self) -> None:
        self.line = self.line[: self.cursor] + self.line[self.cursor + 1 :]

    def _delete_word(self) -> None:
        kept = self.line[: self.cursor].rstrip()
        kept = kept[: max(kept.rfind(" "), kept.rfind("\t")) + 1]
        self.line = kept + self.line[self.cursor :]
        self.cursor = len(kept)

    def _recall(self, step: int) -> None:
        if self._recalled is None:
            if step > 0:
                return
            self._recalled = len(self.history)
        number = self._recalled + step
        if number < 0:
            return
        self._recalled = number if number < len(self.history) else None
        self.line = self.history[number] if self._recalled is not None else ""
        self.cursor = len(self.line)

    def _feed_sequence(self, character: str) -> None:
        """Take a character of an escape sequence: ``ESC [`` or ``ESC O``, digits, and one that ends it."""
        sequence = self._sequence + character
        if sequence in ("\x1b[", "\x1bO") or (len(sequence) < 16 and character in "0123456789;"):
            self._sequence = sequence if len(sequence) > 1 and sequence[1] in "[O" else ""
            return
        self._sequence = ""
        match sequence[1:]:
            case "[A" | "OA":
                self._recall(-1)
            case "[B" | "OB":
                self._recall(1)
            case "[C" | "OC":
                self._move(1)
            case "[D" | "OD":
                self._move(-1)
            case "[H" | "OH" | "[1~" | "[7~":
                self.cursor = 0
            case "[F" | "OF" | "[4~" | "[8~":
                self.cursor = len(self.line)
            case "[3~":
                self._delete()


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
