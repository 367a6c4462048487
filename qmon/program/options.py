"""Reads the command line as QEMU does: ``-x`` and ``--x`` are the same, and no option can be abbreviated.

Imports little, because it runs before everything else is loaded.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qmon.errors import ProblemsError, QmonError, UsageError
from qmon.migration.wire.transport import DEFER, parse_uri
from qmon.notation.address import InetAddress, UnixAddress, address_hint, check_port
from qmon.notation.device_options import (
    DeviceReader,
    MadeChardev,
    MonitorMode,
    MonitorOptions,
)
from qmon.notation.drive_options import DriveList, DriveOptions, of_node
from qmon.notation.fd_options import AddFd, parse_add_fd
from qmon.notation.keyval import parse_keyval, split_options
from qmon.program.command_line import Given, find_options
from qmon.program.option_table import OPTIONS, Treatment
from qmon.remote.address import Descriptor, Domain, RemoteAddress, parse_remote
from qmon.remote.address import Kind as RemoteKind

if TYPE_CHECKING:
    from qmon.notation.blockdev import NodeList

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

STDIN = "-"
"""The file name that means standard input."""

_WITH_CONNECT = frozenset(
    """
    connect brief incoming require-tls c script keep-going json y q plain trace-qmp hx name statedir
    no-user-config D readconfig set
    """.split()
)
"""The options that mean something to a console that is connected to another program."""

_SHORT_DRIVES: dict[str, dict[str, str]] = {
    "hda": {"index": "0", "media": "disk"},
    "hdb": {"index": "1", "media": "disk"},
    "hdc": {"index": "2", "media": "disk"},
    "hdd": {"index": "3", "media": "disk"},
    "cdrom": {"index": "2", "media": "cdrom"},
    "fda": {"if": "floppy", "index": "0"},
    "fdb": {"if": "floppy", "index": "1"},
    "sd": {"if": "sd"},
    "mtdblock": {"if": "mtd"},
    "pflash": {"if": "pflash"},
}


class Show(enum.Enum):
    """What is printed instead of running."""

    HELP = "help"
    VERSION = "version"
    COMPLETION = "completion"
    """The completion of ``shell``."""
    CERTIFICATES = "certificates"
    """What is to be done with the certificates that were made in ``folder`` for ``hosts``."""
    OBJECTS = "objects"
    """The help of -object: the options of ``object_type``, or a list of types."""


@dataclass(frozen=True, slots=True)
class ScriptOption:
    """``-c`` or ``-script``: ``text`` is the line to run, or the file of lines, ``-`` for standard input."""

    text: str
    is_line: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one command line. Paths and the incoming URI are kept as written."""

    show: Show | None = None
    """When set, all other fields are ignored."""
    object_type: str | None = None
    shell: str = ""
    folder: str = ""
    hosts: tuple[str, ...] = ()
    connect: RemoteAddress | None = None
    """The running program whose console this is; None for a machine of qmon's own."""
    brief: bool = False
    """Whether each line has a connection of its own."""
    objects: tuple[dict[str, Any], ...] = ()
    """The arguments of object-add, one dict for each ``-object``."""
    drives: tuple[DriveOptions, ...] = ()
    incoming: str | None = None
    """A URI, or ``defer``."""
    require_tls: bool = False
    """Whether addresses are refused that are not loopback and have no TLS."""
    paused: bool = False
    name: str | None = None
    uuid: str | None = None
    """In lower case."""
    chardevs: tuple[MadeChardev, ...] = ()
    monitors: tuple[MonitorOptions, ...] = ()
    descriptors: tuple[AddFd, ...] = ()
    """The inherited descriptors that become members of sets."""
    scripts: tuple[ScriptOption, ...] = ()
    """In the order in which they are run."""
    keep_going: bool = False
    json: bool = False
    assume_yes: bool = False
    quiet: bool = False
    plain: bool = False
    user_config: bool = True
    """Whether the configuration file is read."""
    trace_qmp: bool = False
    hx: tuple[str, ...] = ()
    """Command table files, written ``FILE`` or ``info=FILE``."""
    statedir: str | None = None
    pidfile: str | None = None
    logfile: str | None = None
    daemonize: bool = False
    ignored: tuple[str, ...] = ()
    """The names of ignored options, each once, such as ``-m`` or ``-drive cache``."""

    @property
    def stdin_monitor(self) -> bool:
        """Whether the human monitor reads standard input: by ``-monitor stdio``, or by default."""
        return any(self._is_on_stdin(monitor) for monitor in self.monitors)

    @property
    def other_monitors(self) -> bool:
        """Whether there is a monitor other than the human monitor on standard input."""
        return any(not self._is_on_stdin(monitor) for monitor in self.monitors)

    @property
    def monitors_elsewhere(self) -> bool:
        """Whether there is a monitor or QMP server that is not on standard input."""
        return any(monitor.chardev not in self._stdio for monitor in self.monitors)

    def _is_on_stdin(self, monitor: MonitorOptions) -> bool:
        return monitor.mode is MonitorMode.READLINE and monitor.chardev in self._stdio

    @property
    def _stdio(self) -> list[str]:
        return [made.options.id for made in self.chardevs if made.options.kind == "stdio"]

    @property
    def note(self) -> str | None:
        """Return one line that names the ignored options, or None if there are none."""
        if not self.ignored:
            return None
        return f"these options are ignored: {', '.join(self.ignored)}"


def parse(argv: Sequence[str]) -> Options:
    """Read the arguments after the program's name, and the files that ``-readconfig`` names.

    Raises ProblemsError: a line for each option that can't be used, which begins with the option as typed.
    """
    reader = _Reader()
    problems: list[str] = []
    found = find_options(argv)
    is_known = all(given.problem is None for given in found)
    for given in found:
        try:
            reader.take(given)
        except UsageError as error:
            problems.append(f"{given.shown}: {error}")
        if reader.show is not None and is_known and not problems:
            return Options(show=reader.show, object_type=reader.object_type, shell=reader.shell)
    if reader.folder is not None:
        problems += _certificate_conflicts(found, reader.hosts)
        if not problems:
            return Options(show=Show.CERTIFICATES, folder=reader.folder, hosts=tuple(reader.hosts))
    options = reader.options()
    problems += reader.conflicts(options)
    if problems:
        raise ProblemsError(problems)
    return options


class _Reader:
    """Collects the options one by one; of an option that takes one value, the last one counts."""

    def __init__(self) -> None:
        self.show: Show | None = None
        self.object_type: str | None = None
        self.shell = ""
        self.folder: str | None = None
        self.hosts: list[str] = []
        self._objects: dict[str, dict[str, Any]] = {}
        self._drives = DriveList()
        self._nodes: NodeList | None = None
        self._devices = DeviceReader()
        self._hx: list[str] = []
        self._scripts: list[ScriptOption] = []
        self._texts: dict[str, str] = {}
        self._switches: set[str] = set()
        self._descriptors: list[AddFd] = []
        self._ignored: list[str] = []
        self._connect: RemoteAddress | None = None
        self._of_a_machine: list[str] = []
        """The options, as typed, that a connected console has no use for."""

    def take(self, given: Given) -> None:
        """Add one option. Raises UsageError without the option's name."""
        option, argument = given.option, given.argument
        if option is None or option.name not in _WITH_CONNECT:
            self._of_a_machine.append(given.shown)
        if given.problem is not None:
            raise UsageError(given.problem)
        if option is None and self.folder is not None:
            self.hosts.append(argument)
            return
        if option is None:
            self._drives.add({"file": argument, **_SHORT_DRIVES["hda"]})
            return
        if option.treatment is Treatment.REFUSED:
            raise UsageError(f"not supported: {option.help}")
        if given.ignored is not None:
            self._ignored.append(given.ignored)
            return
        if option.treatment is Treatment.IGNORED:
            self._ignore(option.name, argument)
            return
        match option.name:
            case "h" | "help":
                self.show = Show.HELP
            case "version":
                self.show = Show.VERSION
            case "completion":
                self._take_shell(argument)
            case "make-certs":
                self.folder = argument
            case "drive":
                self._drives.add(parse_keyval(argument))
            case "blockdev":
                self._take_node(argument)
            case name if name in _SHORT_DRIVES:
                self._drives.add({"file": argument, **_SHORT_DRIVES[name]})
            case "serial":
                if not self._devices.take_serial(argument, given.shown):
                    self._ignored.append(f"-{option.name}")
            case "monitor" | "qmp" | "qmp-pretty" | "chardev" | "mon":
                self._devices.take(option.name, argument, given.shown)
            case "add-fd":
                self._descriptors.append(replace(parse_add_fd(argument), shown=given.shown))
            case "incoming":
                _check_incoming(argument)
                self._texts["incoming"] = argument
            case "object":
                self._take_object(argument)
            case "name":
                self._take_name(argument)
            case "connect":
                self._connect = parse_remote(argument)
            case "c" | "script":
                self._scripts.append(ScriptOption(argument, option.name == "c"))
            case "hx":
                self._hx.append(argument)
            case "uuid":
                if not _UUID.fullmatch(argument):
                    raise UsageError("failed to parse UUID string: wrong format")
                self._texts["uuid"] = argument.lower()
            case name if option.takes_argument:
                self._texts[name] = argument
            case name:
                self._switches.add(name)

    def _ignore(self, name: str, argument: str) -> None:
        """Note an option without effect. Raises UsageError if leaving it out would change what was asked."""
        if name == "parallel" and argument in ("none", "null"):
            return  # this is the default
        if name == "run-with" and any(part.startswith("chroot=") for part in split_options(argument)):
            raise UsageError(f"not supported: {OPTIONS['chroot'].help}")
        self._ignored.append(f"-{name}")

    def _take_shell(self, argument: str) -> None:
        from qmon.program.completions import SHELLS

        if argument not in SHELLS:
            raise UsageError(f"use one of {', '.join(SHELLS)}")
        self.show, self.shell = Show.COMPLETION, argument

    def _take_node(self, argument: str) -> None:
        from qmon.notation.blockdev import NodeList

        self._nodes = self._nodes or NodeList()
        self._nodes.add(argument)

    def _all_drives(self) -> tuple[DriveOptions, ...]:
        """Return the nodes that are drives, then the other drives."""
        drives = self._drives.drives
        if "snapshot" in self._switches:
            drives = [replace(drive, is_temporary=True) for drive in drives]
        nodes = [] if self._nodes is None else self._nodes.added
        return (*(of_node(spec, is_resting=is_resting) for spec, is_resting in nodes), *drives)

    def _take_object(self, argument: str) -> None:
        from qmon.notation.object_options import HelpWanted, OtherTypeError, parse_object
        from qmon.notation.visit import Form

        try:
            wanted = parse_object(argument, Form.OPTION)
        except OtherTypeError as error:
            self._ignored.append(f"-object {error.type_name}")
            return
        if isinstance(wanted, HelpWanted):
            self.show, self.object_type = Show.OBJECTS, wanted.type_name
            return
        if wanted["id"] in self._objects:
            raise UsageError(f"Duplicate ID '{wanted['id']}' for object")
        self._objects[wanted["id"]] = wanted

    def _take_name(self, argument: str) -> None:
        for key, value in parse_keyval(argument, "guest").items():
            if key == "guest":
                self._texts["name"] = value
            elif key in ("process", "debug-threads"):
                self._ignored.append(f"-name {key}")
            else:
                raise UsageError(f"Invalid parameter '{key}'")

    def options(self) -> Options:
        """Return the collected options; ``conflicts`` says whether they go together."""
        daemonize = "daemonize" in self._switches
        if not (daemonize or self._scripts):
            self._devices.add_default()
        ignored = [*self._ignored, *(f"-drive {key}" for key in self._drives.ignored)]
        ignored += [] if self._nodes is None else [f"-blockdev {key}" for key in self._nodes.ignored]
        return Options(
            connect=self._connect,
            brief="brief" in self._switches,
            objects=tuple(self._objects.values()),
            drives=self._all_drives(),
            incoming=self._texts.get("incoming"),
            require_tls="require-tls" in self._switches,
            paused="S" in self._switches,
            name=self._texts.get("name"),
            uuid=self._texts.get("uuid"),
            chardevs=tuple(self._devices.chardevs),
            monitors=tuple(self._devices.monitors),
            descriptors=tuple(self._descriptors),
            scripts=tuple(self._scripts),
            keep_going="keep-going" in self._switches,
            json="json" in self._switches,
            assume_yes="y" in self._switches,
            quiet="q" in self._switches,
            plain="plain" in self._switches,
            user_config="no-user-config" not in self._switches,
            trace_qmp="trace-qmp" in self._switches,
            hx=tuple(self._hx),
            statedir=self._texts.get("statedir"),
            pidfile=self._texts.get("pidfile"),
            logfile=self._texts.get("D"),
            daemonize=daemonize,
            ignored=tuple(dict.fromkeys(ignored)),
        )

    def conflicts(self, options: Options) -> list[str]:
        """Return a line for each option that excludes another one or lacks one."""
        problems = self._devices.check(options.daemonize)
        if options.connect is not None:
            problems += [
                f"{typed}: not possible with -connect: the machine runs already"
                for typed in self._of_a_machine
                if not _is_for_tls(typed)
            ]
            if options.incoming is not None:
                problems += _incoming_conflicts(options)
        if options.brief:
            problems += _brief_conflicts(options.connect)
        if ScriptOption(STDIN) in options.scripts and (options.stdin_monitor or options.daemonize):
            problems.append("-script -: not possible with -daemonize or a monitor on standard input")
        return problems


def _is_for_tls(typed: str) -> bool:
    """Whether it is an object that a console's own TLS needs."""
    option, _, value = typed.lstrip("-").partition(" ")
    return option == "object" and ("tls-creds" in value or "authz" in value or "secret" in value)


def _brief_conflicts(address: RemoteAddress | None) -> list[str]:
    if address is None:
        return ["-brief: works with -connect only"]
    if isinstance(address.place, Domain):
        return ["-brief: not needed for a libvirt domain: libvirt's monitor serves several programs"]
    if isinstance(address.place, Descriptor):
        return ["-brief: not possible with a connected socket: there is no address to connect to again"]
    return []


def _certificate_conflicts(found: Sequence[Given], hosts: Sequence[str]) -> list[str]:
    others = [each for each in found if each.option is not None and each.option.name != "make-certs"]
    problems = [f"{each.shown}: not possible with -make-certs, which starts no machine" for each in others]
    if not hosts:
        problems.append("-make-certs: name the server: -make-certs DIR HOST...")
    return problems


def _incoming_conflicts(options: Options) -> list[str]:
    """Return why this console can't receive a guest for the QEMU that it is connected to."""
    problems = []
    if options.brief:
        problems.append("-incoming: not possible with -brief: the console has to stay connected")
    if options.connect is not None and options.connect.kind is RemoteKind.HMP:
        problems.append("-incoming: not possible with hmp: use the QEMU's -qmp monitor")
    if options.connect is not None and options.connect.kind is RemoteKind.LIBVIRT:
        problems.append(
            "-incoming: not possible with libvirt, which moves its guests itself:"
            " virsh migrate --live --copy-storage-all DOMAIN URI"
        )
    return problems


def _check_incoming(uri: str) -> None:
    """Raises UsageError for what is no address; the reason ends with how it is written right."""
    if uri == DEFER:
        return
    try:
        place = parse_uri(uri).place
        if isinstance(place, InetAddress | UnixAddress):
            check_port(place)
    except QmonError as error:
        hint = address_hint(uri)
        raise UsageError(f"{error}: {hint}" if hint else str(error)) from error
