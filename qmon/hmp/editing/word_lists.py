"""What arguments and flags can be where that is a few words, each with its meaning: data for completion."""

from __future__ import annotations

from collections.abc import Mapping

Words = Mapping[str, str]
"""A word to its meaning."""

FLAGS: Mapping[str, Words] = {
    "block_job_cancel": {"f": "cancel even a job that is ready"},
    "calc_dirty_rate": {"r": "count by the dirty ring", "b": "count by the dirty bitmap"},
    "change": {"f": "open the tray even when it is locked"},
    "cont": {"f": "run even disks that were handed over"},
    "drive_add": {"n": "a node alone, without a drive"},
    "drive_backup": {
        "n": "write into an image that is there",
        "f": "the whole disk, backing images and all",
        "c": "compress what is written",
    },
    "drive_mirror": {
        "n": "write into an image that is there",
        "f": "the whole disk, backing images and all",
    },
    "dump-guest-memory": {
        "p": "with the guest's page tables",
        "d": "do not wait for the end",
        "w": "in the format of Windows",
        "z": "compressed by zlib",
        "l": "compressed by lzo",
        "s": "compressed by snappy",
    },
    "eject": {"f": "even when the tray is locked"},
    "expire_password": {"d": "of this display"},
    "info block": {"n": "named nodes, not drives", "v": "with the images' own details"},
    "info mtree": {
        "f": "flat views",
        "d": "with dispatch trees",
        "o": "with owners",
        "D": "disabled regions, too",
    },
    "info registers": {"a": "of every CPU"},
    "info sync-profile": {"m": "sorted by the mean", "n": "each place alone"},
    "mce": {"b": "to every CPU"},
    "migrate": {
        "d": "do not wait for the end",
        "b": "copy the disks in full",
        "i": "copy what the disks hold above their backing images",
        "r": "go on with a paused migration",
    },
    "nbd_server_add": {"w": "clients may write"},
    "nbd_server_remove": {"f": "throw the clients out"},
    "nbd_server_start": {"a": "export every drive", "w": "clients may write"},
    "pcie_aer_inject_error": {"a": "an advisory error", "c": "a correctable error"},
    "qemu-io": {"d": "the device is given by its id"},
    "qom-set": {"j": "the value is JSON"},
    "screendump": {"f": "in this format"},
    "set_password": {"d": "of this display"},
    "snapshot_blkdev": {"n": "on an image that is there"},
    "watch": {"n": "so many times"},
}
"""By the command as it is typed, then the letter."""

SWITCH = {"off": "", "on": ""}

_FORMATS = {"qcow2": "an image that may have a backing image", "raw": "the bytes as they are"}
_PROTOCOLS = {"spice": "SPICE's viewers", "vnc": "VNC's viewers"}
_ADDRESSES = {
    "exec:": "a command's standard input and output",
    "fd:": "a descriptor named by getfd",
    "file:": "a file",
    "tcp:": "HOST:PORT",
    "unix:": "a Unix socket's path",
}
_SINGLE = {"off": "", "on": "one instruction at a time"}

ARGUMENTS: Mapping[tuple[str, str], Words] = {
    ("boot_set", "bootdevice"): {"c": "the first disk", "d": "the CD-ROM", "n": "the network"},
    ("change", "read-only-mode"): {
        "read-only": "nobody may write",
        "read-write": "guests may write",
        "retain": "as it was",
    },
    ("change", "arg"): _FORMATS,
    ("client_migrate_info", "protocol"): {"spice": "SPICE's viewers"},
    ("drive_add", "pci_addr"): {"dummy": "a slot, which nothing looks at"},
    ("drive_backup", "format"): _FORMATS,
    ("drive_mirror", "format"): _FORMATS,
    ("expire_password", "protocol"): _PROTOCOLS,
    ("expire_password", "time"): {"never": "it stays good", "now": "at once", "+": "in so many seconds"},
    ("gdbserver", "device"): {"none": "stop it", "tcp::1234": "on this port"},
    ("info stats", "target"): {"vcpu": "of the CPUs", "vm": "of the machine"},
    ("keys", "mode"): {"emacs": "Ctrl-A, Ctrl-E, Ctrl-R and so on", "vi": "commands behind Escape"},
    ("migrate", "uri"): _ADDRESSES,
    ("migrate_continue", "state"): {"pre-switchover": "go on with the switchover"},
    ("migrate_incoming", "uri"): _ADDRESSES,
    ("migrate_recover", "uri"): _ADDRESSES,
    ("nbd_server_start", "uri"): {"unix:": "a Unix socket's path", "127.0.0.1:": "a port of this host"},
    ("one-insn-per-tb", "option"): _SINGLE,
    ("screendump", "format"): {"png": "compressed", "ppm": "the points as they are"},
    ("set_password", "protocol"): _PROTOCOLS,
    ("set_password", "connected"): {
        "disconnect": "viewers that are there have to go",
        "fail": "refused while viewers are there",
        "keep": "viewers that are there stay",
    },
    ("singlestep", "option"): _SINGLE,
    ("snapshot_blkdev", "format"): _FORMATS,
    ("sync-profile", "op"): {"off": "", "on": "", "reset": "begin anew"},
    ("trace-file", "op"): {"off": "", "on": "", "flush": "write what waits", "set": "another file"},
    ("wait", "what"): {"job": "until a block job has ended", "migrate": "until the migration has ended"},
    ("watchdog_action", "action"): {
        "debug": "tell the log",
        "inject-nmi": "interrupt the guest",
        "none": "nothing",
        "pause": "stop the machine",
        "poweroff": "switch the machine off at once",
        "reset": "reset the machine",
        "shutdown": "ask the guest to shut down",
    },
}
"""By the command as it is typed and the argument's key. A word that ends in ``:`` or ``+`` goes on."""

DRIVE_OPTIONS = {
    "cache=": "writeback, none, directsync, unsafe or writethrough",
    "file=": "the image",
    "format=": "raw or qcow2",
    "id=": "the drive's name",
    "if=": "none",
    "readonly=": "on or off",
}
"""What ``drive_add`` takes behind one another, with commas."""

RESOLUTIONS = {"keep": "the disks are this side's", "release": "the disks are the other side's"}
