"""Every option of the command line in one table: those of QEMU 7.2 to 10 (qemu-options.hx) and our own."""

from __future__ import annotations

import enum
import textwrap
from dataclasses import dataclass


class Treatment(enum.Enum):
    """What becomes of an option."""

    OURS = "ours"
    IGNORED = "ignored"
    """It only matters to a CPU, a screen or a device bus: taken, and named in one line."""
    REFUSED = "refused"
    """Leaving it out would change what was asked for."""


@dataclass(frozen=True, slots=True)
class Option:
    """One row; ``argument`` is what the help calls its argument, "" for an option that takes none."""

    name: str
    treatment: Treatment
    argument: str = ""
    help: str = ""
    """For an option of ours one sentence; for a refused one, what to do instead."""

    @property
    def takes_argument(self) -> bool:
        return bool(self.argument)


HELP_WIDTH = 79
"""Columns of ``-h``."""

DRIVE = "file=FILE[,id=ID][,format=raw|qcow2][,if=none|virtio][,readonly=on|off]"

_OURS = (
    Option("h", Treatment.OURS, "", "Show this help."),
    Option("help", Treatment.OURS, "", "Show this help."),
    Option("version", Treatment.OURS, "", "Show the version."),
    Option("name", Treatment.OURS, "NAME", "Set the machine's name."),
    Option("uuid", Treatment.OURS, "UUID", "Set the machine's UUID: 8-4-4-4-12 hexadecimal digits."),
    Option(
        "drive", Treatment.OURS, DRIVE, "Add a drive; may be repeated. Write a comma inside a value twice."
    ),
    Option(
        "blockdev",
        Treatment.OURS,
        "[driver=]DRIVER,node-name=NAME[,OPTION=VALUE...]",
        "Add a block node. A node that no other uses is a drive; its id is NAME.",
    ),
    Option("snapshot", Treatment.OURS, "", "Keep the disks as they are: writes go to temporary overlays."),
    Option(
        "object",
        Treatment.OURS,
        "[qom-type=]TYPE,id=ID[,PROPERTY=VALUE...]",
        "Add an object; drives may use it. -object help lists the types.",
    ),
    Option("hda", Treatment.OURS, "FILE", "Add the drive ide0-hd0; a FILE without an option does the same."),
    Option("hdb", Treatment.OURS, "FILE", "Add the drive ide0-hd1."),
    Option("hdc", Treatment.OURS, "FILE", "Add the drive ide1-hd0."),
    Option("hdd", Treatment.OURS, "FILE", "Add the drive ide1-hd1."),
    Option("cdrom", Treatment.OURS, "FILE", "Add the read-only drive ide1-cd0."),
    Option("fda", Treatment.OURS, "FILE", "Add the drive floppy0."),
    Option("fdb", Treatment.OURS, "FILE", "Add the drive floppy1."),
    Option("sd", Treatment.OURS, "FILE", "Add a drive named sd0, sd1, and so on."),
    Option("mtdblock", Treatment.OURS, "FILE", "Add a drive named mtd0, mtd1, and so on."),
    Option("pflash", Treatment.OURS, "FILE", "Add a drive named pflash0, pflash1, and so on."),
    Option(
        "incoming",
        Treatment.OURS,
        "URI|defer",
        "Listen for a migration, or read one (exec:COMMAND, file:PATH, fd:N); defer: only once "
        "migrate_incoming is given. With -connect: for the QEMU "
        "there, which was started with -incoming defer.",
    ),
    Option("S", Treatment.OURS, "", "Start paused: guests' requests wait until cont."),
    Option(
        "monitor",
        Treatment.OURS,
        "stdio|none|unix:PATH|tcp:HOST:PORT|telnet:...[,server][,nowait]|...",
        "Open a monitor on the terminal, a socket or another device; may be repeated.",
    ),
    Option("qmp", Treatment.OURS, "unix:PATH,server,nowait|...", "Open a QMP monitor; may be repeated."),
    Option(
        "qmp-pretty",
        Treatment.OURS,
        "unix:PATH,server,nowait|...",
        "Open a QMP monitor that indents its answers; may be repeated.",
    ),
    Option(
        "chardev",
        Treatment.OURS,
        "KIND,id=ID[,...]",
        "Add a character device; socket,fd=N uses an inherited socket.",
    ),
    Option(
        "mon",
        Treatment.OURS,
        "[chardev=]ID[,mode=readline|control][,pretty=on|off]",
        "Open a monitor (mode=control: a QMP monitor) on a character device.",
    ),
    Option(
        "serial",
        Treatment.OURS,
        "mon:KIND",
        "Open a monitor, as -monitor KIND does; serial lines are ignored.",
    ),
    Option(
        "connect",
        Treatment.OURS,
        "NAME|unix:PATH|HOST:PORT|fd:N|hmp:ADDRESS|libvirt:[URI/]DOMAIN",
        "Be the console of a running qmon (by -name or process id), of a QEMU or storage daemon (by its "
        "-qmp monitor; hmp: by its -monitor), or of a libvirt domain. HOST:PORT,tls-creds=ID: over TLS.",
    ),
    Option(
        "brief",
        Treatment.OURS,
        "",
        "With -connect: connect for each line and let go, for a monitor that a manager needs.",
    ),
    Option("require-tls", Treatment.OURS, "", "Refuse network addresses without TLS."),
    Option(
        "c",
        Treatment.OURS,
        "LINE",
        "Run the command LINE, then quit; repeated -c and -script run in order.",
    ),
    Option(
        "script",
        Treatment.OURS,
        "FILE",
        "Run the commands in FILE (-: standard input), then quit; stop at a failure.",
    ),
    Option("keep-going", Treatment.OURS, "", "Continue a script after a line that fails."),
    Option("json", Treatment.OURS, "", "Print the result of each line of a script as JSON, one per line."),
    Option("y", Treatment.OURS, "", "Answer yes to every question."),
    Option("q", Treatment.OURS, "", "Print no greeting, no notices and no progress of scripts."),
    Option(
        "plain",
        Treatment.OURS,
        "",
        "Only add text to the terminal: no colours, no menu, nothing drawn again.",
    ),
    Option("trace-qmp", Treatment.OURS, "", "Print on standard error the QMP commands that each line runs."),
    Option(
        "readconfig",
        Treatment.OURS,
        "FILE",
        'Read options from FILE, in sections such as [drive "d0"].',
    ),
    Option(
        "set", Treatment.OURS, "GROUP.ID.KEY=VALUE", "Change an earlier -drive, -chardev, -mon or -add-fd."
    ),
    Option(
        "add-fd",
        Treatment.OURS,
        "fd=N,set=M[,opaque=TEXT]",
        "Add an inherited descriptor to the set M; /dev/fdset/M names its file.",
    ),
    Option(
        "hx",
        Treatment.OURS,
        "[info=]FILE",
        "Add the commands of QEMU's table FILE (.hx); info=FILE: those of info.",
    ),
    Option(
        "statedir",
        Treatment.OURS,
        "DIR",
        "Keep migration records in DIR (default: $XDG_STATE_HOME/qmon).",
    ),
    Option(
        "no-user-config",
        Treatment.OURS,
        "",
        "Do not read $XDG_CONFIG_HOME/qmon/config.toml.",
    ),
    Option("daemonize", Treatment.OURS, "", "Continue in the background once everything is set up."),
    Option("pidfile", Treatment.OURS, "FILE", "Write the process id to FILE."),
    Option("D", Treatment.OURS, "LOGFILE", "Write the log to LOGFILE instead of standard error."),
    Option(
        "make-certs",
        Treatment.OURS,
        "DIR HOST...",
        "Make an authority for TLS and the certificates of a server HOST and a client in DIR, then quit.",
    ),
    Option(
        "completion",
        Treatment.OURS,
        "bash|zsh|fish",
        "Print a script that completes these options in the shell.",
    ),
)

_REFUSED = (
    Option("preconfig", Treatment.REFUSED, "", "use -S"),
    Option("loadvm", Treatment.REFUSED, "...", "give the command loadvm after the start"),
    Option("chroot", Treatment.REFUSED, "...", "start qmon with chroot(8)"),
    Option("dump-vmstate", Treatment.REFUSED, "...", "the machine has no device state"),
)

_IGNORED_ALONE = """
    mem-prealloc audio-help usb nographic portrait full-screen win2k-hack no-fd-bootchk no-acpi no-hpet
    singlestep s enable-kvm xen-attach xen-domid-restrict no-reboot no-shutdown only-migratable nodefaults
    semihosting old-param async-teardown enable-sync-profile perfmap jitdump
"""

_IGNORED_WITH_ARGUMENT = """
    machine M cpu accel smp numa global boot m mem-path k audio audiodev device fsdev virtfs usbdevice display
    spice rotate vga g vnc acpitable smbios netdev nic net tpmdev bios kernel append initrd dtb compat fw_cfg
    parallel debugcon overcommit gdb d dfilter seed L xen-domid action option-rom rtc icount
    watchdog-action echr prom-env semihosting-config trace plugin qtest qtest-log msg shim iscsi runas
    run-with sandbox id
"""
"""``id`` is Proxmox's addition to QEMU."""

_OTHERS = (
    ("QEMU's options that are accepted and ignored, with a note:", Treatment.IGNORED),
    ("QEMU's options that are refused:", Treatment.REFUSED),
)

OPTIONS: dict[str, Option] = {
    option.name: option
    for option in (
        *_OURS,
        *_REFUSED,
        *(Option(name, Treatment.IGNORED) for name in _IGNORED_ALONE.split()),
        *(Option(name, Treatment.IGNORED, "...") for name in _IGNORED_WITH_ARGUMENT.split()),
    )
}


def reference(*, index: bool) -> str:
    """Return the options as reStructuredText; with ``index`` each has an entry for Sphinx's index."""
    lines: list[str] = []
    for option in _OURS:
        lines.append(f"``-{option.name}``" + (f" ``{option.argument}``" if option.argument else ""))
        if index:
            lines += [f"  .. index:: single: -{option.name} (option)", ""]
        lines += [f"  {_literal(option.help)}", ""]
    for title, treatment in _OTHERS:
        lines += [title, "  " + " ".join(f"``-{name}``" for name in _names(treatment)), ""]
    return "\n".join(lines)


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|")


def _names(treatment: Treatment) -> list[str]:
    return sorted((name for name, row in OPTIONS.items() if row.treatment is treatment), key=str.lower)


def help_text(program: str) -> str:
    """The text of ``-h``, made from the table, without a newline at its end."""
    lines = [f"usage: {program} [options] [FILE]", ""]
    for option in _OURS:
        head = f"-{option.name} {option.argument}".rstrip()
        if len(head) > 18:
            lines.append(head)
            head = ""
        lines += _wrapped(option.help, f"{head:<20}", " " * 20)
    for title, treatment in _OTHERS:
        body = " ".join(f"-{name}" for name in _names(treatment))
        lines += ["", title]
        lines += _wrapped(body, "  ", "  ")
    return "\n".join(lines)


def _wrapped(text: str, first: str, other: str) -> list[str]:
    return textwrap.wrap(
        text,
        HELP_WIDTH,
        initial_indent=first,
        subsequent_indent=other,
        break_on_hyphens=False,
        break_long_words=False,
    )
