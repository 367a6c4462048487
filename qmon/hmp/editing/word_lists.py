"""Data for completion: flags, and arguments with few possible words, each with its meaning."""

from __future__ import annotations

from collections.abc import Mapping

Words = Mapping[str, str]
"""Words with their meanings."""

FLAGS: Mapping[str, Words] = {
    "block_job_cancel": {"f": "cancel even a job that is ready"},
    "calc_dirty_rate": {"r": "measure by the dirty ring", "b": "measure by the dirty bitmap"},
    "change": {"f": "open the tray even if it is locked"},
    "cont": {"f": "resume even if the disks have moved"},
    "drive_add": {"n": "add a node without a drive"},
    "drive_backup": {
        "n": "use an existing image",
        "f": "copy the backing images' data too",
        "c": "compress the copy",
    },
    "drive_mirror": {
        "n": "use an existing image",
        "f": "copy the backing images' data too",
    },
    "dump-guest-memory": {
        "p": "use the guest's page tables",
        "d": "dump in the background",
        "w": "write the format of Windows' debugger",
        "z": "compress with zlib",
        "l": "compress with lzo",
        "s": "compress with snappy",
    },
    "eject": {"f": "open the tray even if it is locked"},
    "expire_password": {"d": "choose the display"},
    "info block": {"n": "list nodes, not drives", "v": "show details of the images"},
    "info migrate": {"a": "as QEMU shows it, with all figures", "t": "the time line, drawn"},
    "info mtree": {
        "f": "show flat views",
        "d": "show dispatch trees",
        "o": "show owners",
        "D": "show disabled regions",
    },
    "info registers": {"a": "show every CPU"},
    "info sync-profile": {"m": "sort by mean", "n": "list each object"},
    "mce": {"b": "inject into every CPU"},
    "migrate": {
        "d": "migrate in the background",
        "b": "copy the disks",
        "i": "copy the disks, but not their backing images",
        "r": "resume a paused migration",
        "n": "only try whether and how fast it would move",
    },
    "nbd_server_add": {"w": "let clients write"},
    "nbd_server_remove": {"f": "disconnect its clients"},
    "nbd_server_start": {
        "a": "export every drive",
        "w": "let clients write",
        "t": "require TLS, with these credentials",
        "z": "let this object decide who may connect",
    },
    "pcie_aer_inject_error": {"a": "report an advisory error", "c": "report a correctable error"},
    "qemu-io": {"d": "name a guest's device by its id"},
    "qom-set": {"j": "read the value as JSON"},
    "screendump": {"f": "choose the format"},
    "set_password": {"d": "choose the display"},
    "snapshot_blkdev": {"n": "use an existing overlay"},
    "watch": {"n": "stop after this many runs"},
}
"""The meanings of flags: by the command as typed, then by letter."""

SWITCH = {"off": "", "on": ""}

_FORMATS = {"qcow2": "may have a backing image", "raw": "plain bytes"}
_PROTOCOLS = {"spice": "SPICE clients", "vnc": "VNC clients"}
ADDRESSES = {
    "exec:": "standard input and output of a command",
    "fd:": "a descriptor stored by getfd",
    "file:": "a file",
    "tcp:": "HOST:PORT",
    "unix:": "a Unix socket's path",
}
"""The addresses of migrations, of which the text after the colon is missing."""

_SINGLE = {"off": "", "on": "one instruction at a time"}

ARGUMENTS: Mapping[tuple[str, str], Words] = {
    ("boot_set", "bootdevice"): {"c": "the first disk", "d": "the CD-ROM", "n": "the network"},
    ("change", "read-only-mode"): {
        "read-only": "open the image read-only",
        "read-write": "open the image for writing",
        "retain": "as before",
    },
    ("change", "arg"): _FORMATS,
    ("client_migrate_info", "protocol"): {"spice": "SPICE clients"},
    ("drive_add", "pci_addr"): {"0": "any word; it is ignored"},
    ("drive_backup", "format"): _FORMATS,
    ("drive_mirror", "format"): _FORMATS,
    ("expire_password", "protocol"): _PROTOCOLS,
    ("expire_password", "time"): {"never": "never expires", "now": "expires now", "+": "seconds from now"},
    ("gdbserver", "device"): {"none": "stop the server", "tcp::1234": "listen on this port"},
    ("info stats", "target"): {"vcpu": "the CPUs", "vm": "the machine"},
    ("keys", "mode"): {"emacs": "Ctrl-A, Ctrl-E, Ctrl-R and so on", "vi": "vi's modes; Escape for commands"},
    ("migrate_continue", "state"): {"pre-switchover": "continue with the switchover"},
    ("nbd_server_start", "uri"): {"unix:": "a Unix socket's path", "127.0.0.1:": "a port of this host"},
    ("one-insn-per-tb", "option"): _SINGLE,
    ("screendump", "format"): {"png": "compressed", "ppm": "uncompressed"},
    ("set_password", "protocol"): _PROTOCOLS,
    ("set_password", "connected"): {
        "disconnect": "disconnect the present clients",
        "fail": "refuse while clients are connected",
        "keep": "keep the present clients",
    },
    ("singlestep", "option"): _SINGLE,
    ("snapshot_blkdev", "format"): _FORMATS,
    ("sync-profile", "op"): {"off": "", "on": "", "reset": "reset the figures"},
    ("trace-file", "op"): {"off": "", "on": "", "flush": "write buffered events", "set": "choose the file"},
    ("wait", "what"): {
        "job": "wait until a block job has ended",
        "migrate": "wait until the migration has ended",
    },
    ("watchdog_action", "action"): {
        "debug": "write to the log",
        "inject-nmi": "interrupt the guest",
        "none": "do nothing",
        "pause": "pause the machine",
        "poweroff": "power off at once",
        "reset": "reset the machine",
        "shutdown": "ask the guest to shut down",
    },
}
"""The words of arguments: by the command as typed and the argument's key. More follows ``:`` and ``+``."""

DRIVE_OPTIONS = {
    "file=": "path of the image",
    "format=": "raw or qcow2",
    "id=": "name of the drive",
    "readonly=": "on or off",
    "cache=": "writeback, none, directsync, unsafe or writethrough",
    "if=": "none",
}
"""The options of ``drive_add``, which are separated by commas; those that a drive needs come first."""

RESOLUTIONS = {"keep": "the disks stay here", "release": "the disks belong to the other host"}
