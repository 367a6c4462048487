"""Two hosts on one machine: network namespaces with a line between them, and each a kernel's name of its own.

Both see the files of this machine. Loop devices on one file are two hosts' views of a disk on a SAN: neither
sees what the other has cached, nor its locks. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = "/proc/sys/kernel/random/boot_id"
ADDRESSES = ("192.0.2.1", "192.0.2.2")


class NoHostsError(Exception):
    """They can't be made here; the message says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """``within`` runs a command on it; ``address`` is where the other one reaches it."""

    within: Sequence[str]
    address: str


def _run(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoHostsError(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        raise NoHostsError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def two_hosts(folder: Path, *, own_kernels: bool = True) -> Iterator[tuple[Host, Host]]:
    """Make two hosts; with ``own_kernels`` they seem to have a kernel each. Raises NoHostsError."""
    if os.geteuid():
        raise NoHostsError("root")
    names = [f"qmon-{os.getpid()}-{uuid.uuid4().hex[:6]}-{side}" for side in "ab"]
    with contextlib.ExitStack() as stack:
        for name in names:
            _run("ip", "netns", "add", name)
            stack.callback(_run, "ip", "netns", "del", name)
        _run("ip", "-n", names[0], "link", "add", "v", "type", "veth", "peer", "name", "v", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            _run("ip", "-n", name, "address", "add", f"{address}/30", "dev", "v")
            for device in ("v", "lo"):
                _run("ip", "-n", name, "link", "set", device, "up")
        hosts = []
        for name, address in zip(names, ADDRESSES, strict=True):
            within = ["ip", "netns", "exec", name]
            if own_kernels:
                boot_id = folder / f"{name}.boot_id"
                boot_id.write_text(f"{uuid.uuid4()}\n")
                mount = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
                within += ["unshare", "--mount", "sh", "-c", mount, str(boot_id)]
            hosts.append(Host(within, address))
        yield hosts[0], hosts[1]


@contextlib.contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """A block device on a file. Raises NoHostsError."""
    device = _run("losetup", "--find", "--show", str(file))
    try:
        yield Path(device)
    finally:
        _run("losetup", "--detach", device)
