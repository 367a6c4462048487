"""Keys that both ends share instead of certificates, in a Python without them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from qmon.errors import CommandError
from qmon.machine.psk_credentials import PskCredentials


@pytest.mark.parametrize("endpoint", ["server", "client"])
def test_without_keys_in_python_they_are_refused_in_one_line(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssl, "HAS_PSK", False, raising=False)
    (tmp_path / "keys.psk").write_text("qemu:00112233\n")
    made = PskCredentials("tls-creds-psk", {"dir": str(tmp_path), "endpoint": endpoint})
    made.complete()
    with pytest.raises(CommandError) as caught:
        made.tls()
    assert str(caught.value) == (
        "qom-type 'tls-creds-psk' needs Python 3.13 or later, with pre-shared keys in its OpenSSL: use"
        " tls-creds-x509, or another Python"
    )
