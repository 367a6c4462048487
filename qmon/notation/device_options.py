"""Reads -monitor, -qmp, -chardev, -mon and -serial: character devices, and the monitors on them.

Standard library only and quick to import, because it runs before everything else is loaded.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from qmon.errors import UsageError
from qmon.notation.chardev_options import (
    BadOptionError,
    ChardevOptions,
    parse_chardev,
    parse_short,
)
from qmon.notation.keyval import HELP_WORDS, parse_keyval, parse_switch


class MonitorMode(enum.Enum):
    """The language of a monitor: READLINE is HMP, for a person; CONTROL is QMP."""

    READLINE = "readline"
    CONTROL = "control"


CHARDEV_HELP = "to list the kinds of character devices, run 'chardev-add help' on a monitor"


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """A monitor on the character device with the id ``chardev``; ``pretty`` indents QMP's answers.

    ``shown`` is the command-line option that asked for it, as typed.
    """

    chardev: str
    mode: MonitorMode = MonitorMode.READLINE
    pretty: bool = False
    shown: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class MadeChardev:
    """A character device to create, and the command-line option that asked for it, as typed."""

    options: ChardevOptions
    shown: str = field(default="", compare=False)


class DeviceReader:
    """Collects the options one by one in ``chardevs`` and ``monitors``."""

    def __init__(self) -> None:
        self.chardevs: list[MadeChardev] = []
        self.monitors: list[MonitorOptions] = []
        self._none = False
        self._compat = 0
        self._serials = 0
        self._lacks_some = False
        """Whether a -chardev was refused, so that an id that is not found may have been its."""

    def take(self, name: str, argument: str, shown: str) -> None:
        """Take a -monitor, -qmp, -qmp-pretty, -chardev or -mon; ``shown`` is the option as typed.

        Raises UsageError with the reason, without the option's name.
        """
        try:
            self._take(name, argument, shown)
        except UsageError as error:
            self._lacks_some = self._lacks_some or name == "chardev"
            if isinstance(error, BadOptionError):
                raise UsageError(str(error).replace("\n", " ") or CHARDEV_HELP) from error
            raise

    def _take(self, name: str, argument: str, shown: str) -> None:
        match name:
            case "chardev" if argument in HELP_WORDS:
                raise UsageError(CHARDEV_HELP)
            case "chardev":
                self._add_chardev(parse_chardev(argument), shown)
            case "mon":
                self.monitors.append(replace(_read_mon(argument), shown=shown))
            case "monitor" if argument == "none":
                self._none = True
            case "monitor":
                self._add_short(argument, MonitorOptions("", shown=shown))
            case _:
                pretty = name == "qmp-pretty"
                self._add_short(argument, MonitorOptions("", MonitorMode.CONTROL, pretty, shown))

    def take_serial(self, argument: str, shown: str) -> bool:
        """Take a -serial. Return False if it has no effect: only ``mon:`` has one, as it adds a monitor."""
        if argument in ("none", "null"):
            return True
        if not argument.startswith("mon:"):
            return False
        label = f"serial{self._serials}"
        self._serials += 1
        self._add_chardev(parse_short(argument, label), shown)
        self.monitors.append(MonitorOptions(label, shown=shown))
        return True

    def add_default(self) -> None:
        """Add a monitor on standard input, unless the options ask for another use or for no monitor."""
        uses_stdio = any(made.options.kind == "stdio" for made in self.chardevs)
        if not (self.monitors or self._none or uses_stdio):
            self._add_short("stdio", MonitorOptions(""))

    def check(self, daemonize: bool) -> list[str]:
        """Check that the options fit together. Return a line for each that does not; it names the option."""
        problems = []
        made = {each.options.id: each for each in self.chardevs}
        taken = set()
        for monitor in self.monitors:
            chardev = made.get(monitor.chardev)
            if chardev is None:
                if not self._lacks_some:
                    problems.append(f'{monitor.shown}: chardev "{monitor.chardev}" not found')
                continue
            if monitor.chardev in taken and not chardev.options.mux and chardev.options.kind != "mux":
                problems.append(f"{monitor.shown}: Device '{monitor.chardev}' is in use")
            taken.add(monitor.chardev)
        if daemonize:
            on_stdio = (each for each in self.chardevs if each.options.kind == "stdio")
            problems += [f"{each.shown}: cannot use stdio with -daemonize" for each in on_stdio]
        return problems

    def _add_short(self, argument: str, monitor: MonitorOptions) -> None:
        label = argument.removeprefix("chardev:")
        if label == argument:
            label = f"compat_monitor{self._compat}"
            self._add_chardev(parse_short(argument, label), monitor.shown)
        self._compat += 1
        self.monitors.append(replace(monitor, chardev=label))

    def _add_chardev(self, options: ChardevOptions, shown: str) -> None:
        if any(made.options.id == options.id for made in self.chardevs):
            raise UsageError(f"Duplicate ID '{options.id}' for chardev")
        if options.kind == "stdio" and any(made.options.kind == "stdio" for made in self.chardevs):
            raise UsageError("cannot use stdio by multiple character devices")
        self.chardevs.append(MadeChardev(options, shown))


def _read_mon(argument: str) -> MonitorOptions:
    """Read ``[chardev=]ID[,mode=readline|control][,pretty=on|off]``. Raises UsageError."""
    given = parse_keyval(argument, "chardev")
    for key in given:
        if key not in ("chardev", "mode", "pretty", "id"):
            raise UsageError(f"Invalid parameter '{key}'")
    if "chardev" not in given:
        raise UsageError("Parameter 'chardev' is missing")
    modes = [mode for mode in MonitorMode if mode.value == given.get("mode", "readline")]
    if not modes:
        raise UsageError(f"Parameter 'mode' does not accept value '{given['mode']}'")
    pretty = parse_switch("pretty", given.get("pretty", "off"))
    if pretty and modes[0] is MonitorMode.READLINE:
        raise UsageError("'pretty' is not compatible with HMP monitors")
    return MonitorOptions(given["chardev"], modes[0], pretty)
