"""The entry point: reads the command line and runs the program.

Options are read before anything heavy is imported, so that ``-version`` and a wrong option answer at once.
Nothing of qmon is imported before ``main``, so that a failing import is reported in one line as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmon.program.daemon import Launcher
    from qmon.program.front import Front
    from qmon.program.options import Options

INTERRUPTED = 128 + signal.SIGINT
"""The exit status that shells show for a process that SIGINT ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run qmon; return its exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing needs an orderly end yet
    try:
        from qmon.host.standard_streams import open_standard_streams
        from qmon.notation.plain_text import PlainStream

        open_standard_streams()
        with contextlib.redirect_stderr(PlainStream(sys.stderr)):
            return _print("", _main(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # the loop has just ended
        return INTERRUPTED
    except MemoryError:
        return _complain("out of memory")
    except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, no traceback reaches a user
        from qmon.errors import reason
        from qmon.host.logs import internal_error
        from qmon.host.threads import no_thread

        if (shortage := no_thread(error)) is not None:
            return _complain(reason(shortage))
        return _complain(internal_error("the program failed", error))


def _main(argv: Sequence[str]) -> int:
    from qmon.errors import ProblemsError
    from qmon.program.options import parse

    try:
        options = parse(argv)
    except ProblemsError as error:
        return _complain(*error.problems)
    if options.show is not None:
        return _show(options)
    if options.note and not options.quiet:
        print(f"qmon: {options.note}", file=sys.stderr)
    return _start(options)


def _show(options: Options) -> int:
    from qmon.program.options import Show

    match options.show:
        case Show.VERSION:
            from qmon.version import VERSION

            text = f"qmon version {VERSION}"
        case Show.HELP:
            from qmon.program.option_table import help_text

            text = help_text("qmon")
        case Show.COMPLETION:
            from qmon.program.completions import SHELLS

            text = SHELLS[options.shell]()
        case Show.CERTIFICATES:
            from qmon.errors import QmonError
            from qmon.program.make_certs import make_certificates

            try:
                text = make_certificates(options.folder, options.hosts)
            except QmonError as error:
                return _complain(str(error))
        case _:
            from qmon.notation.object_options import help_lines

            text = "\n".join(help_lines(options.object_type))
    return _print(f"{text}\n")


def _print(text: str, status: int = 0) -> int:
    """Print a text and flush earlier output; return ``status``, or 1 if it is 0 and printing failed."""
    try:
        if text:  # writing an empty text could fail, too
            sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        from qmon.host.standard_streams import drop_output

        drop_output()
        if status or error.errno == errno.EPIPE:  # already reported, or the reader has closed the pipe
            return status or 1
        return _complain(f"standard output: {os.strerror(error.errno or 0)}")
    return status


def _complain(*problems: str) -> int:
    for text in problems:
        print(f"qmon: {text}", file=sys.stderr, flush=True)
    return 1


def _front(options: Options) -> Front | None:
    """Fork the process for the shell at the terminal to wait for, if there is such a shell."""
    if not (options.stdin_monitor and sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    from qmon.program.front import Front, is_needed

    try:
        return Front() if is_needed() else None
    except OSError:  # no process is left for it: Ctrl-Z then says that no shell waits
        return None


def _start(options: Options) -> int:
    from qmon.errors import ProblemsError, QmonError, reason

    launcher: Launcher | None = None
    try:
        if options.daemonize:
            from qmon.program.daemon import Launcher

            launcher = Launcher()  # forks, so it comes before any thread and before the loop
            if launcher.is_parent:
                return launcher.wait()
        front = _front(options)
        if front is not None and front.is_front:
            return front.wait()
        from qmon.host.logs import tell_faults

        tell_faults()
        import asyncio

        with asyncio.Runner() as runner:
            if options.connect is not None:
                from qmon.program.connected import ConnectedProgram

                return runner.run(ConnectedProgram(options, options.connect, front).run())
            from qmon.program.run import Program

            return runner.run(Program(options, launcher, front).run())
    except (QmonError, OSError) as error:
        text = reason(error)
        if isinstance(error, OSError) and error.filename:
            text = f"{error.filename}: {text}"
        problems = error.problems if isinstance(error, ProblemsError) else (text,)
        if launcher is not None:
            launcher.failed("\n".join(f"qmon: {each}" for each in problems))
            return 1
        return _complain(*problems)
