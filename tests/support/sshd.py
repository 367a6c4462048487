"""An SSH server of the test's own on this host's loopback: its keys and configuration lie in one folder."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

from tests.support.ports import free_port
from tests.support.waiting import eventually


class Sshd:
    """A server that lets the one who runs the tests in, by a key. ``client`` is the client's command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        self._port = free_port()
        for name in ("host", "user"):
            self._keygen(name)
        (folder / "authorized").write_text((folder / "user.pub").read_text())
        host_key = (folder / "host.pub").read_text().split()
        (folder / "known").write_text(f"[127.0.0.1]:{self._port} {host_key[0]} {host_key[1]}\n")
        (folder / "sshd_config").write_text(
            f"Port {self._port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin prohibit-password\n"
        )
        (folder / "ssh_config").write_text(
            f"Host there\nHostName 127.0.0.1\nPort {self._port}\nUser {getpass.getuser()}\n"
            f"IdentityFile {folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
            "BatchMode yes\n"
        )
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # its privilege separation needs it
        self._process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        self.client = f"ssh -F {folder}/ssh_config there"
        eventually(self._answers, "the SSH server answers")

    def _keygen(self, name: str) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
        subprocess.run(command, check=True)

    def _answers(self) -> bool:
        return subprocess.run([*self.client.split(), "true"], stderr=subprocess.DEVNULL).returncode == 0

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
