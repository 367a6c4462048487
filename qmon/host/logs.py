"""The log of the process: where it goes, and which details it has. ``qmon.host.trace`` has trace events."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qmon.errors import QmonError, reason
from qmon.notation.plain_text import one_line, plain

FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
TRACE_PREFIX = "trace:"
TOLD_BY_MONITOR = {"told_by_monitor": True}
"""Extra fields of a log record whose text a monitor shows, too, so that a console does not repeat it."""
TOLD_BY_EVENT = {"told_by_event": True}
"""The same for a record about something that an event reports: a console that shows events has told it."""

_NOTHING = "no effect: qmon runs no guest code"


@dataclass(frozen=True, slots=True)
class LogItem:
    """An item that can be logged in detail, and the name of its logger, None if it has no effect."""

    meaning: str
    logger: str | None = None


LOG_ITEMS = {
    "out_asm": LogItem(_NOTHING),
    "in_asm": LogItem(_NOTHING),
    "op": LogItem(_NOTHING),
    "op_opt": LogItem(_NOTHING),
    "op_ind": LogItem(_NOTHING),
    "op_plugin": LogItem(_NOTHING),
    "int": LogItem(_NOTHING),
    "exec": LogItem(_NOTHING),
    "cpu": LogItem(_NOTHING),
    "fpu": LogItem(_NOTHING),
    "mmu": LogItem(_NOTHING),
    "pcall": LogItem(_NOTHING),
    "cpu_reset": LogItem(_NOTHING),
    "unimp": LogItem("why a monitor's client was not served", "qmon.hmp"),
    "guest_errors": LogItem("errors of NBD clients, which are the guests", "qmon.nbd"),
    "invalid_mem": LogItem(_NOTHING),
    "page": LogItem(_NOTHING),
    "nochain": LogItem(_NOTHING),
    "plugin": LogItem(_NOTHING),
    "strace": LogItem(_NOTHING),
    "tid": LogItem("a file for each thread: accepted, but all threads write one file"),
    "vpu": LogItem(_NOTHING),
}
"""QEMU's log items by name (QEMU, util/log.c)."""

ALL, NONE = "all", "none"


class LogError(QmonError):
    """A log file can't be opened or a log item is wrong; the text is QEMU's."""


def internal_error(what: str, error: BaseException) -> str:
    """Return the one line that reports a bug of qmon: ``what`` happened, and the error."""
    return (
        f"internal error: {what}: {type(error).__name__}: {reason(error)}; please report it"
        " (-D LOGFILE keeps the details)"
    )


def tell_faults() -> None:
    """Send uncaught exceptions to the log, and to standard error in one line each."""
    fallen = logging.getLogger("qmon")
    threading.excepthook = lambda args: fallen.error(
        "the thread '%s' ended unexpectedly",
        getattr(args.thread, "name", ""),
        exc_info=args.exc_value,
    )
    # A failing destructor does no harm, so only the log has it.
    sys.unraisablehook = lambda args: fallen.info("ignored in %r", args.object, exc_info=args.exc_value)
    logging.raiseExceptions = False
    _until_started.setStream(sys.stderr)
    _until_started.setFormatter(_ForPeople())
    logging.getLogger().addHandler(_until_started)


_until_started = logging.StreamHandler()


class Log:
    """The destination of the process's log. Before ``start`` or ``move``, Python's logging is unchanged.

    ``open_file`` opens a file for appending and returns its descriptor, or raises OSError.
    """

    def __init__(self) -> None:
        self._level_before = logging.getLogger().level
        self._handler: logging.Handler | None = None
        self._path: str | None = None
        self._is_open = False

    def start(self, path: str | None, open_file: Callable[[str], int]) -> None:
        """Log to a file; for None, log warnings and errors to standard error. Raises OSError, LogError."""
        if path is None:
            self._take(logging.StreamHandler(sys.stderr), _ForPeople(), logging.WARNING)
        else:
            self._path = expand(path)
            self._open(self._path, open_file)

    def move(self, template: str, open_file: Callable[[str], int]) -> None:
        """Log to another file from now on. Raises LogError; then the log stays in the former place.

        May block. After an error the new name is kept, and ``choose`` tries it again, as QEMU does.
        """
        self._path = expand(template)
        self._is_open = False
        self._reopen(open_file)

    def choose(self, items: Iterable[str], open_file: Callable[[str], int]) -> None:
        """Log exactly these items in detail. Raises LogError. May block."""
        chosen = set(items)
        if "tid" in chosen and self._path is None:
            raise LogError("Filename template with '%d' required for 'tid'")
        for name, item in LOG_ITEMS.items():
            if item.logger is not None:
                level = logging.DEBUG if name in chosen else logging.NOTSET
                logging.getLogger(item.logger).setLevel(level)
        if self._path is not None and not self._is_open:
            self._reopen(open_file)

    def close(self) -> None:
        """Restore Python's logging."""
        root = logging.getLogger()
        for item in LOG_ITEMS.values():
            if item.logger is not None:
                logging.getLogger(item.logger).setLevel(logging.NOTSET)
        if self._handler is not None:
            root.removeHandler(self._handler)
            self._handler.close()
            self._handler = None
            root.setLevel(self._level_before)

    def _reopen(self, open_file: Callable[[str], int]) -> None:
        assert self._path is not None
        try:
            self._open(self._path, open_file)
        except (OSError, ValueError) as error:  # a name with a null byte
            raise LogError(f"Error opening logfile {self._path}: {reason(error)}") from error

    def _open(self, path: str, open_file: Callable[[str], int]) -> None:
        self._take(_FileHandler(open_file(path), path), _ForFiles(FILE_FORMAT), logging.INFO)
        self._is_open = True

    def _take(self, handler: logging.Handler, formatter: logging.Formatter, level: int) -> None:
        root = logging.getLogger()
        handler.setFormatter(formatter)
        root.addHandler(handler)
        root.setLevel(level)
        root.removeHandler(_until_started)
        if self._handler is not None:
            root.removeHandler(self._handler)
            self._handler.close()
        self._handler = handler


class _ForPeople(logging.Formatter):
    """Formats a record as one line without a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        text = one_line(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            return one_line(f"qmon: {internal_error(text, record.exc_info[1])}")
        return f"qmon: {text}"


class _ForFiles(logging.Formatter):
    """Formats a record as one line, even if its text has line ends; an indented traceback may follow."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - a method of logging.Formatter
        return one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record).replace("\n", "\n  "))


class _FileHandler(logging.Handler):
    """Writes each record at once. The first failure is reported on standard error; the record is lost."""

    def __init__(self, descriptor: int, path: str) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._path = path
        self._has_failed = False

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record) + "\n"
        try:
            os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                print(f"qmon: can't write the log {self._path}: {reason(error)}", file=sys.stderr)

    def close(self) -> None:
        os.close(self._descriptor)
        super().close()


def expand(template: str) -> str:
    """Return a log file's name with ``%d`` replaced by the process id. Raises LogError for another ``%``."""
    start, percent, end = template.partition("%")
    if not percent:
        return template
    if not end.startswith("d") or "%" in end:
        raise LogError(f"Bad logfile template: {template}")
    return f"{start}{os.getpid()}{end[1:]}"
