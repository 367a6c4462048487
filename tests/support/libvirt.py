"""A libvirtd of its own for a test, with one domain: a QEMU without KVM and with one disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.support.peers import lack, require
from tests.support.waiting import PATIENCE, eventually, is_listened_at

_DAEMONS = ("/usr/sbin/virtlogd", "/usr/sbin/libvirtd")
_PACKAGES = Path("/usr/lib/python3/dist-packages")
_NOBODY = 65534

_DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


class Libvirt:
    """A libvirtd in a new folder. As root it is another user's, so that it is none of the system's."""

    def __init__(self) -> None:
        self.host = str(uuid.uuid4())
        """What tells its host from that of another libvirtd, although it is the same."""
        require(*_DAEMONS, "virsh", "qemu-system-x86_64")
        modules = sorted(_PACKAGES.glob("libvirt*.py")) + sorted(_PACKAGES.glob("libvirtmod*.so"))
        tag = f"cpython-{sys.version_info.major}{sys.version_info.minor}-"
        if not any(tag in each.name for each in modules):
            lack(f"python3-libvirt for Python {sys.version_info.major}.{sys.version_info.minor}")
        self._stack = contextlib.ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # pytest's own folders are closed to other users
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="libvirt-")))
        self.socket = self.folder / "run/libvirt/libvirt-sock"
        self.uri = f"qemu:///session?socket={self.socket}"
        self.python_path = self.folder / "python"
        """The library for a Python that has none of the system's packages."""
        self.python_path.mkdir()
        for each in modules:
            (self.python_path / each.name).symlink_to(each)

    def __enter__(self) -> Libvirt:
        with contextlib.ExitStack() as stack:
            stack.push(self._stack)
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        for name in ("run", "config", "cache", "home"):
            (self.folder / name).mkdir()
        configured = self.folder / "config/libvirt"
        configured.mkdir()
        (configured / "libvirtd.conf").write_text(f'host_uuid = "{self.host}"\n')
        self.give_away()
        for daemon in _DAEMONS:
            self._processes[daemon] = self._run(daemon)
            self._stack.callback(self._end, daemon)
        eventually(lambda: is_listened_at(self.socket), "libvirtd listens")

    def _run(self, daemon: str) -> subprocess.Popen[bytes]:
        is_root = os.geteuid() == 0
        with (self.folder / f"{Path(daemon).name}.log").open("ab") as log:
            return subprocess.Popen(
                [daemon],
                cwd="/",
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=_NOBODY if is_root else None,
                group=_NOBODY if is_root else None,
                extra_groups=[] if is_root else None,
            )

    def _end(self, daemon: str) -> None:
        self._processes[daemon].terminate()
        self._processes[daemon].wait(PATIENCE)

    def restart(self) -> None:
        """End libvirtd and start it again; the domains run on."""
        daemon = _DAEMONS[-1]
        self._end(daemon)
        self.socket.unlink(missing_ok=True)
        self._processes[daemon] = self._run(daemon)
        eventually(lambda: is_listened_at(self.socket), "libvirtd listens")

    def give_away(self) -> None:
        if os.geteuid() == 0:
            for each in (self.folder, *self.folder.iterdir(), self.folder / "config/libvirt"):
                shutil.chown(each, _NOBODY, _NOBODY)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def _running(self) -> list[str]:
        return self.virsh("list", "--name").splitlines()

    def virsh(self, *words: str) -> str:
        """What virsh prints; it succeeds."""
        done = self._virsh(*words)
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"
        return done.stdout.strip()

    def virsh_error(self, *words: str) -> str:
        """What virsh says when it fails."""
        done = self._virsh(*words)
        assert done.returncode != 0, done.stdout
        return done.stderr.strip()

    def _virsh(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["virsh", "-c", self.uri, *words],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=3 * PATIENCE,
        )

    def log(self) -> str:
        return (self.folder / "libvirtd.log").read_text()

    @contextlib.contextmanager
    def domain(self, name: str) -> Iterator[None]:
        """A running domain, which ends with the block if it has not ended before."""
        disk = self.folder / f"{name}.img"
        disk.write_bytes(bytes(1 << 20))
        self.give_away()
        text = self.folder / f"{name}.xml"
        text.write_text(_DOMAIN.format(name=name, disk=disk))
        self.virsh("create", str(text))
        try:
            yield
        finally:
            if name in self._running():
                self._virsh("destroy", name)  # fails if it has just ended by itself
            eventually(lambda: name not in self._running(), f"{name} has ended")

    @contextlib.contextmanager
    def stuck(self, name: str) -> Iterator[None]:
        """Within the block the domain's QEMU does nothing."""
        pid = int((self.folder / f"run/libvirt/qemu/run/{name}.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
