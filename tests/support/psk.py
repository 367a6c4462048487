"""Keys that both ends of TLS share, and a qmon that runs in a Python that has them (3.13)."""

from __future__ import annotations

import ssl
from pathlib import Path

from tests.support.peers import require
from tests.support.processes import Lab

_PYTHON_3_13 = "/opt/python313/run"

NO_1_3 = ",priority=NORMAL:-VERS-TLS1.3"
"""What keeps a credentials object to TLS 1.2."""

_FILES = {
    "ours": "qemu:00112233445566778899aabbccddeeff\njoe:aabbccddeeff00112233445566778899\n",
    "theirs": "qemu:99112233445566778899aabbccddeeff\nann:aabbccddeeff00112233445566778899\n",
}


def lab_with_keys(folder: Path) -> Lab:
    """A lab whose qmons have pre-shared keys."""
    if getattr(ssl, "HAS_PSK", False):
        return Lab(folder)
    require(_PYTHON_3_13)
    return Lab(folder, [_PYTHON_3_13, "-m", "qmon"])


def key_folders(folder: Path) -> Path:
    """Make the folders ``ours`` (users qemu and joe) and ``theirs`` (another key for qemu, and ann)."""
    for name, text in _FILES.items():
        (folder / name).mkdir()
        (folder / name / "keys.psk").write_text(text)
    return folder


def credentials(id: str, folder: Path, endpoint: str, *, user: str = "", more: str = "") -> str:
    """The options of a credentials object with the keys of a folder, the same for QEMU and qmon."""
    named = f",username={user}" if user else ""
    return f"tls-creds-psk,id={id},dir={folder},endpoint={endpoint}{named}{more}"
